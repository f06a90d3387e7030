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
