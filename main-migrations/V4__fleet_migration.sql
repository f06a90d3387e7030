-- The fleet's migration: what each tenant's database is at, one run over all of them, and what the nodes see meanwhile.

ALTER TABLE tenants
    -- A digest of all migrations that the database is known to have, the operator's own included: one that has those of
    -- today need not be connected to. NULL where that is not known.
    ADD COLUMN migrations_hash text,
    -- The newest of the operator's own migrations that it has.
    ADD COLUMN operator_version integer NOT NULL DEFAULT 0;

-- Another database, as after a restore or a move, has what it has: whoever migrates next looks.
CREATE FUNCTION tenants_other_database() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.migrations_hash IS NOT DISTINCT FROM OLD.migrations_hash THEN
        NEW.migrations_hash := NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER tenants_other_database BEFORE UPDATE OF database_name ON tenants
    FOR EACH ROW WHEN (NEW.database_name <> OLD.database_name) EXECUTE FUNCTION tenants_other_database();

-- One run at a time.
CREATE UNIQUE INDEX operations_one_migration ON operations (kind)
    WHERE kind = 'migrate' AND state IN ('queued', 'running');

-- What one run has to do, and has done. A tenant may go away meanwhile, hence no foreign key.
CREATE TABLE migration_tenants (
    run_id         uuid NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    tenant_id      uuid NOT NULL,
    slug           text NOT NULL,
    -- The canary is wave 0.
    wave           integer NOT NULL CHECK (wave >= 0),
    state          text NOT NULL DEFAULT 'pending'
                   CHECK (state IN ('pending', 'running', 'done', 'failed', 'skipped')),
    attempts       integer NOT NULL DEFAULT 0,
    from_schema    integer,
    to_schema      integer,
    from_operator  integer,
    to_operator    integer,
    -- How many migrations were applied.
    applied        integer NOT NULL DEFAULT 0,
    migration      text,
    error          text,
    ms             bigint,
    next_try_at    timestamptz,
    finished_at    timestamptz,
    PRIMARY KEY (run_id, tenant_id)
);
CREATE INDEX migration_tenants_unfinished ON migration_tenants (run_id, wave)
    WHERE state IN ('pending', 'running', 'failed');

-- While a run is on, nodes tell tenants that have its migrations from the rest. They hear of it with the registry's
-- changes, and forget it at `watch_until` if the runner is gone.
ALTER TABLE registry_head
    ADD COLUMN watch_run uuid,
    ADD COLUMN watch_hash text,
    ADD COLUMN watch_until timestamptz;

-- What a node has seen since the run began: of tenants that have its migrations, and of the rest.
CREATE TABLE migration_health (
    run_id    uuid NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    node_id   uuid NOT NULL,
    migrated  boolean NOT NULL,
    requests  bigint NOT NULL,
    errors    bigint NOT NULL,
    -- Requests by how long they took: each bucket reaches to twice as long as the one before.
    buckets   bigint[] NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, node_id, migrated)
);
