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
    operator_version integer NOT NULL,
    database_name   text NOT NULL CHECK (database_name <> ''),
    role_name       text NOT NULL CHECK (role_name <> ''),
    password_sealed bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ready_tenants_cluster_id ON ready_tenants (cluster_id, state, migrations, created_at);

-- Sign-ups that wait for an operator. The request is an operation without a tenant: its job is what the stranger follows.
-- Who wants to be the first administrator is sealed (address, names, the password's hash), and goes with the decision.
CREATE TABLE signups (
    id           uuid PRIMARY KEY REFERENCES operations (id) ON DELETE CASCADE,
    slug         text NOT NULL UNIQUE CHECK (slug ~ '^[a-z][a-z0-9-]{1,46}[a-z0-9]$'),
    name         text NOT NULL CHECK (name <> ''),
    admin_sealed bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);

-- How often an address has asked within an hour. The subject is a keyed digest. Worth no write to the log: after a crash
-- of the server everybody begins at nought.
CREATE UNLOGGED TABLE signup_attempts (
    subject      bytea PRIMARY KEY,
    attempts     integer NOT NULL,
    window_start timestamptz NOT NULL
);
CREATE INDEX signup_attempts_window_start ON signup_attempts (window_start);

-- Requests to the control plane that came with an `Idempotency-Key`, and what they were answered. Without a status the
-- request was not finished; whoever repeats it goes on with it. Bodies hold neither tokens nor passwords.
CREATE TABLE request_records (
    id          uuid PRIMARY KEY,
    scope       text NOT NULL,
    key         text NOT NULL,
    fingerprint bytea NOT NULL,
    status      integer,
    location    text,
    version     bigint,
    body        jsonb,
    expires_at  timestamptz NOT NULL,
    UNIQUE (scope, key)
);
CREATE INDEX request_records_expires_at ON request_records (expires_at);

-- The word under which the operator sells it.
ALTER TABLE tenants ADD COLUMN plan text CHECK (plan ~ '^[a-z][a-z0-9_-]{0,62}$');

-- What a look at a cluster's server found. Apart from the cluster, whose version grows with what an operator changes.
CREATE TABLE cluster_facts (
    cluster_id      uuid PRIMARY KEY REFERENCES clusters (id) ON DELETE CASCADE,
    server_version  text NOT NULL,
    -- What can be installed there.
    extensions      text[] NOT NULL,
    -- What ordinary roles may have open, and what everybody has.
    max_connections integer NOT NULL,
    connections     integer NOT NULL,
    bytes           bigint NOT NULL,
    probed_at       timestamptz NOT NULL
);
