-- The control plane: where tenants are, how to reach them, who runs the installation. No personal data of tenants'
-- people is ever kept here.

-- One row: this installation. `mac_sealed` is the key of routing parts, key ids and cursors.
CREATE TABLE installation (
    id          uuid PRIMARY KEY,
    only_one    boolean NOT NULL DEFAULT true UNIQUE CHECK (only_one),
    mac_sealed  bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- PostgreSQL servers that tenants are placed on. A shared tenant has its address from here, so that a server which
-- moves is one row.
CREATE TABLE clusters (
    id                    uuid PRIMARY KEY,
    name                  text NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    host                  text NOT NULL CHECK (host <> ''),
    port                  integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    admin_user            text NOT NULL CHECK (admin_user <> ''),
    admin_password_sealed bytea NOT NULL,
    admin_database        text NOT NULL CHECK (admin_database <> ''),
    tls_mode              text NOT NULL CHECK (tls_mode IN ('disable', 'require', 'verify-ca', 'verify-full')),
    tls_ca                text,
    tls_client_cert       text,
    tls_client_key_sealed bytea,
    region                text,
    max_tenants           integer CHECK (max_tenants > 0),
    connection_budget     integer CHECK (connection_budget > 0),
    draining              boolean NOT NULL DEFAULT false,
    generation            bigint NOT NULL DEFAULT 0,
    version               bigint NOT NULL DEFAULT 1,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT clusters_client_cert_has_key CHECK ((tls_client_cert IS NULL) = (tls_client_key_sealed IS NULL))
);

CREATE TABLE tenants (
    id                    uuid PRIMARY KEY,
    slug                  text NOT NULL UNIQUE CHECK (slug ~ '^[a-z][a-z0-9-]{1,46}[a-z0-9]$'),
    name                  text NOT NULL CHECK (name <> ''),
    status                text NOT NULL DEFAULT 'provisioning'
                          CHECK (status IN ('provisioning', 'active', 'suspended', 'archived')),
    kind                  text NOT NULL CHECK (kind IN ('shared', 'dedicated')),
    cluster_id            uuid REFERENCES clusters (id),
    database_name         text NOT NULL CHECK (database_name <> ''),
    role_name             text NOT NULL CHECK (role_name <> ''),
    password_sealed       bytea,
    url_sealed            bytea,
    direct_url_sealed     bytea,
    tls_mode              text CHECK (tls_mode IN ('disable', 'require', 'verify-ca', 'verify-full')),
    tls_ca                text,
    tls_client_cert       text,
    tls_client_key_sealed bytea,
    max_connections       integer CHECK (max_connections > 0),
    registration          text NOT NULL DEFAULT 'closed' CHECK (registration IN ('open', 'invite', 'closed')),
    schema_version        integer NOT NULL DEFAULT 0,
    epoch                 bigint NOT NULL DEFAULT 0,
    generation            bigint NOT NULL DEFAULT 0,
    version               bigint NOT NULL DEFAULT 1,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    archived_at           timestamptz,
    purge_after           timestamptz,
    CONSTRAINT tenants_client_cert_has_key CHECK ((tls_client_cert IS NULL) = (tls_client_key_sealed IS NULL)),
    CONSTRAINT tenants_archived_has_time CHECK ((status = 'archived') = (archived_at IS NOT NULL)),
    CONSTRAINT tenants_shared_is_on_a_cluster CHECK (
        kind <> 'shared' OR (cluster_id IS NOT NULL AND password_sealed IS NOT NULL
            AND url_sealed IS NULL AND direct_url_sealed IS NULL AND tls_mode IS NULL AND tls_ca IS NULL
            AND tls_client_cert IS NULL)),
    CONSTRAINT tenants_dedicated_has_urls CHECK (
        kind <> 'dedicated' OR (cluster_id IS NULL AND password_sealed IS NULL
            AND url_sealed IS NOT NULL AND direct_url_sealed IS NOT NULL AND tls_mode IS NOT NULL))
);
CREATE INDEX tenants_cluster_id ON tenants (cluster_id);
CREATE INDEX tenants_purge_after ON tenants (purge_after) WHERE purge_after IS NOT NULL;
-- One database is one tenant's: no two entries of a cluster may name the same.
CREATE UNIQUE INDEX tenants_one_database ON tenants (cluster_id, database_name) WHERE cluster_id IS NOT NULL;

-- Keys of tenants' access tokens; the one without a tenant signs operators' tokens. The newest that is not retired
-- signs; one is accepted until `retired_at`.
CREATE TABLE signing_keys (
    id              uuid PRIMARY KEY,
    tenant_id       uuid REFERENCES tenants (id) ON DELETE CASCADE,
    alg             text NOT NULL CHECK (alg IN ('EdDSA')),
    public          bytea NOT NULL,
    private_sealed  bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    retired_at      timestamptz
);
CREATE INDEX signing_keys_tenant_id ON signing_keys (tenant_id, created_at DESC);
CREATE UNIQUE INDEX signing_keys_one_in_use
    ON signing_keys (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000')) WHERE retired_at IS NULL;

-- People who run the installation.
CREATE TABLE operators (
    id            uuid PRIMARY KEY,
    email         text NOT NULL UNIQUE CHECK (email = lower(email)),
    password_hash text NOT NULL,
    role          text NOT NULL DEFAULT 'admin' CHECK (role IN ('admin')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    disabled_at   timestamptz
);

CREATE TABLE operator_sessions (
    id          uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operators (id) ON DELETE CASCADE,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    revoked_at  timestamptz
);
CREATE INDEX operator_sessions_operator_id ON operator_sessions (operator_id);
CREATE INDEX operator_sessions_expires_at ON operator_sessions (expires_at);

-- Attempts to log in within a window. The subject is a keyed digest: an e-mail that is unknown counts alike and is
-- not kept.
CREATE TABLE operator_login_attempts (
    subject      bytea PRIMARY KEY,
    attempts     integer NOT NULL,
    window_start timestamptz NOT NULL
);
CREATE INDEX operator_login_attempts_window_start ON operator_login_attempts (window_start);

-- The journal of making, adopting and deleting tenants. It outlives the tenant, hence no foreign key. `input` holds
-- neither secrets nor anything personal.
CREATE TABLE provisionings (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    slug        text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('create', 'attach', 'delete')),
    state       text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed', 'undone')),
    input       jsonb NOT NULL DEFAULT '{}',
    error       text,
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT provisionings_finished_has_time CHECK ((state = 'running') = (finished_at IS NULL))
);
CREATE INDEX provisionings_tenant_id ON provisionings (tenant_id, started_at DESC);
CREATE UNIQUE INDEX provisionings_one_running ON provisionings (tenant_id) WHERE state = 'running';

CREATE TABLE provisioning_steps (
    provisioning_id uuid NOT NULL REFERENCES provisionings (id) ON DELETE CASCADE,
    position        integer NOT NULL,
    name            text NOT NULL,
    state           text NOT NULL CHECK (state IN ('running', 'done')),
    started_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    ms              bigint,
    PRIMARY KEY (provisioning_id, position),
    UNIQUE (provisioning_id, name)
);

-- What changed in the registry, in the order of commits. The update of `registry_head` locks its one row until the
-- transaction ends: whoever has a greater generation has committed later. Changes up to `floor` are no longer listed.
CREATE TABLE registry_head (
    only_one   boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    generation bigint NOT NULL DEFAULT 0,
    floor      bigint NOT NULL DEFAULT 0
);
INSERT INTO registry_head DEFAULT VALUES;

-- A row without a tenant says: any tenant may have changed.
CREATE TABLE registry_log (
    generation bigint PRIMARY KEY,
    tenant_id  uuid,
    slug       text,
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX registry_log_at ON registry_log (at);

CREATE FUNCTION registry_changed(changed_id uuid, changed_slug text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    upcoming bigint;
BEGIN
    UPDATE registry_head SET generation = generation + 1 RETURNING generation INTO STRICT upcoming;
    INSERT INTO registry_log (generation, tenant_id, slug) VALUES (upcoming, changed_id, changed_slug);
    PERFORM pg_notify('tenantry_registry', upcoming::text);
    RETURN upcoming;
END $$;

CREATE FUNCTION tenants_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- A secret sealed anew under another master key is the same secret: nobody has to reload it.
    IF current_setting('tenantry.rewrap', true) = 'on' THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' THEN
        PERFORM registry_changed(OLD.id, OLD.slug);
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        NEW.version := OLD.version + 1;
        NEW.updated_at := now();
        IF NEW.slug <> OLD.slug THEN
            PERFORM registry_changed(OLD.id, OLD.slug);
        END IF;
    END IF;
    NEW.generation := registry_changed(NEW.id, NEW.slug);
    RETURN NEW;
END $$;
CREATE TRIGGER tenants_changed BEFORE INSERT OR UPDATE OR DELETE ON tenants
    FOR EACH ROW EXECUTE FUNCTION tenants_changed();

-- A tenant's keys are part of its registry entry: touching the tenant gives it its new generation.
CREATE FUNCTION signing_keys_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('tenantry.rewrap', true) IS DISTINCT FROM 'on' THEN
        UPDATE tenants SET generation = generation WHERE id = coalesce(NEW.tenant_id, OLD.tenant_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER signing_keys_changed AFTER INSERT OR UPDATE OR DELETE ON signing_keys
    FOR EACH ROW EXECUTE FUNCTION signing_keys_changed();

CREATE FUNCTION clusters_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('tenantry.rewrap', true) = 'on' THEN
        RETURN NEW;
    END IF;
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
    IF (NEW.name, NEW.host, NEW.port, NEW.tls_mode, NEW.tls_ca, NEW.tls_client_cert, NEW.tls_client_key_sealed,
            NEW.connection_budget)
        IS DISTINCT FROM (OLD.name, OLD.host, OLD.port, OLD.tls_mode, OLD.tls_ca, OLD.tls_client_cert,
            OLD.tls_client_key_sealed, OLD.connection_budget)
    THEN
        NEW.generation := registry_changed(NULL, NULL);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER clusters_changed BEFORE UPDATE ON clusters
    FOR EACH ROW EXECUTE FUNCTION clusters_changed();
