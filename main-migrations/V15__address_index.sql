-- The blind index: which tenants know a verified address, found by whoever has the address, and told to nobody else. The
-- address itself is never here, only its keyed digest. Truth is what each tenant's own database says when it is asked.

-- Keys are derived from the installation's own, each with its number.
CREATE TABLE address_keys (
    id          integer     PRIMARY KEY CHECK (id > 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    -- Since when every tenant's addresses are under it: the newest that is complete is searched by.
    complete_at timestamptz,
    -- Nothing is written under it any more.
    retired_at  timestamptz
);
INSERT INTO address_keys (id, complete_at) VALUES (1, now());

CREATE TABLE address_index (
    tenant_id uuid    NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    user_id   uuid    NOT NULL,
    key_id    integer NOT NULL REFERENCES address_keys (id),
    digest    bytea   NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (tenant_id, user_id, key_id)
);
CREATE INDEX address_index_digest ON address_index (key_id, digest);

-- How often a tenant's part of the index was written: who read the tenant before another wrote does not write after.
CREATE TABLE address_states (
    tenant_id  uuid   PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    generation bigint NOT NULL
);

-- Tenants in whose databases addresses have changed that the index has not heard of: as `dirty_tenants`.
CREATE TABLE tenants_with_news (
    tenant_id  uuid        PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    due_at     timestamptz NOT NULL,
    settled_at timestamptz NOT NULL,
    mark       uuid        NOT NULL DEFAULT gen_random_uuid(),
    looks      integer     NOT NULL DEFAULT 0
);
CREATE INDEX tenants_with_news_due_at ON tenants_with_news (due_at);

-- Those that are here may have verified addresses already.
INSERT INTO tenants_with_news (tenant_id, due_at, settled_at) SELECT id, now(), now() FROM tenants;

-- Searches that were asked for, whether anybody has the address or not.
CREATE TABLE workspace_searches (
    digest       bytea       PRIMARY KEY CHECK (length(digest) = 32),
    key_id       integer     NOT NULL,
    -- When somebody should search; none once it is done.
    due_at       timestamptz,
    -- When it was last asked for, as far as it was answered; and how often since when.
    asked_at     timestamptz NOT NULL,
    asked        integer     NOT NULL,
    window_start timestamptz NOT NULL
);
CREATE INDEX workspace_searches_due_at ON workspace_searches (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX workspace_searches_window_start ON workspace_searches (window_start);
