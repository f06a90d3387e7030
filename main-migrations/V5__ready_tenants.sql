-- Ready tenants: databases that are made, migrated and seeded before anybody asks for them. Each has the id, the names
-- and the password of the tenant it will be, and is stamped with that id: taking one is a transaction here, and no work
-- on its server. A row moves to `tenants` when it is taken.
CREATE TABLE ready_tenants (
    id              uuid PRIMARY KEY,
    cluster_id      uuid NOT NULL REFERENCES clusters (id),
    -- Whoever makes or drops one holds the tenant's lock; without a holder, what is not ready is dropped.
    state           text NOT NULL DEFAULT 'making' CHECK (state IN ('making', 'ready', 'dropping')),
    -- The migrations that it holds: a digest of both sets, and the number of the last built-in one.
    migrations      text NOT NULL,
    schema_version  integer NOT NULL,
    database_name   text NOT NULL CHECK (database_name <> ''),
    role_name       text NOT NULL CHECK (role_name <> ''),
    password_sealed bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ready_tenants_cluster_id ON ready_tenants (cluster_id, state, migrations, created_at);
