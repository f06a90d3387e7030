-- Backups of tenants. The objects themselves are in the storage, sealed with their tenant's key; nothing here goes when
-- a tenant is deleted: only `erase` and retention take backups away.

-- One key per tenant; `id` is the tenant's. Without it none of its backups opens ever again.
CREATE TABLE backup_keys (
    id         uuid PRIMARY KEY,
    key_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE backups (
    id             uuid PRIMARY KEY,
    tenant_id      uuid NOT NULL,
    slug           text NOT NULL,
    state          text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'removing')),
    -- Made by itself, and taken away by itself when its time is over.
    scheduled      boolean NOT NULL,
    -- Of the sealed object.
    bytes          bigint CHECK (bytes > 0),
    rows           bigint CHECK (rows >= 0),
    schema_version integer NOT NULL,
    created_at     timestamptz NOT NULL,
    finished_at    timestamptz,
    CONSTRAINT backups_done_has_facts
        CHECK (state <> 'done' OR (bytes IS NOT NULL AND rows IS NOT NULL AND finished_at IS NOT NULL))
);
CREATE INDEX backups_tenant_id ON backups (tenant_id, created_at DESC);
CREATE INDEX backups_slug ON backups (slug, created_at DESC);
CREATE INDEX backups_scheduled ON backups (created_at) WHERE scheduled;

-- Databases that a tenant lived in before: closed, and dropped when their time has come. `tenant_id` may be gone.
CREATE TABLE former_databases (
    id            uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL,
    cluster_id    uuid NOT NULL REFERENCES clusters (id),
    database_name text NOT NULL CHECK (database_name <> ''),
    created_at    timestamptz NOT NULL DEFAULT now(),
    purge_after   timestamptz NOT NULL,
    CONSTRAINT former_databases_one UNIQUE (cluster_id, database_name)
);
CREATE INDEX former_databases_tenant_id ON former_databases (tenant_id);
CREATE INDEX former_databases_purge_after ON former_databases (purge_after);
