-- Tenants in whose databases something waits to be done, so that nobody has to look into all of them: nothing periodic
-- touches the database of a tenant that is not listed here.
--
-- Listed before the transaction that leaves the work is committed. Until `settled_at` that may still happen: a tenant is
-- not taken from the list before, even if nothing is found.
CREATE TABLE dirty_tenants (
    tenant_id  uuid        PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    -- When somebody should look. Whoever looks moves it on, for as long as the look may take.
    due_at     timestamptz NOT NULL,
    settled_at timestamptz NOT NULL,
    -- Another one with every listing: a look that began before one does not take the tenant off.
    mark       uuid        NOT NULL DEFAULT gen_random_uuid(),
    -- Looks since the last listing, for the pauses between them.
    looks      integer     NOT NULL DEFAULT 0
);
CREATE INDEX dirty_tenants_due_at ON dirty_tenants (due_at);

-- People who belong to several tenants: which accounts are the same person's. Opaque ids alone; who it is, each tenant's
-- own database says, and whether it agrees: a link counts only where the account there names the same person.
CREATE TABLE person_links (
    tenant_id    uuid        NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    user_id      uuid        NOT NULL,
    person_id    uuid        NOT NULL,
    -- When the tenant's database was seen to agree.
    confirmed_at timestamptz,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id),
    CONSTRAINT person_links_one_account UNIQUE (person_id, tenant_id)
);
