-- Databases of tenants that serve nobody any more, kept until their time is over: one table for what moves and what
-- restores leave behind, so that both are shown, told of and dropped alike. Each outlives its tenant, hence no foreign key
-- to that.
CREATE TABLE kept_databases (
    id            uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL,
    cluster_id    uuid NOT NULL REFERENCES clusters (id),
    database_name text NOT NULL CHECK (database_name <> ''),
    -- The role that owns it and goes with it; none where the tenant itself still lives with that role.
    role_name     text CHECK (role_name <> ''),
    left_by       text NOT NULL CHECK (left_by IN ('move', 'restore')),
    kept_since    timestamptz NOT NULL DEFAULT now(),
    purge_after   timestamptz NOT NULL,
    CONSTRAINT kept_databases_one UNIQUE (cluster_id, database_name)
);
CREATE INDEX kept_databases_tenant_id ON kept_databases (tenant_id);
CREATE INDEX kept_databases_purge_after ON kept_databases (purge_after);

INSERT INTO kept_databases (id, tenant_id, cluster_id, database_name, role_name, left_by, kept_since, purge_after)
    SELECT id, tenant_id, cluster_id, database_name, role_name, 'move', left_at, purge_after FROM tenant_copies;
INSERT INTO kept_databases (id, tenant_id, cluster_id, database_name, left_by, kept_since, purge_after)
    SELECT id, tenant_id, cluster_id, database_name, 'restore', created_at, purge_after FROM former_databases
    ON CONFLICT DO NOTHING;

DROP TABLE tenant_copies;
DROP TABLE former_databases;
