-- Apps of the organisation's own, which people let into their accounts: OAuth 2.1.

CREATE TABLE oauth_settings (
    only_row           boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    -- The page on which people are asked.
    consent_url        text        CHECK (length(consent_url) BETWEEN 1 AND 2048),
    -- The organisation's own Ory Hydra, for which this is the login and consent app.
    hydra_admin_url    text        CHECK (length(hydra_admin_url) BETWEEN 1 AND 2048),
    hydra_token_sealed bytea,
    updated_at         timestamptz NOT NULL DEFAULT now(),
    version            bigint      NOT NULL DEFAULT 1,
    CHECK (hydra_token_sealed IS NULL OR hydra_admin_url IS NOT NULL)
);
INSERT INTO oauth_settings DEFAULT VALUES;

CREATE TABLE oauth_clients (
    id                  uuid        PRIMARY KEY,
    name                text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    -- Whose rights bound what it may do in its own name, at every use. It goes with them.
    owner_id            uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- None: it can keep no secret.
    secret_hash         bytea       CONSTRAINT oauth_clients_secret_hash_key UNIQUE,
    -- Its end, to tell secrets apart by.
    hint                text,
    -- The secret before the last rotation, for as long as both are good.
    previous_hash       bytea       CONSTRAINT oauth_clients_previous_hash_key UNIQUE,
    previous_expires_at timestamptz,
    redirect_uris       text[]      NOT NULL CHECK (cardinality(redirect_uris) <= 20),
    grants              text[]      NOT NULL CHECK (cardinality(grants) BETWEEN 1 AND 3),
    -- Names of permissions, and words of OpenID Connect.
    scopes              text[]      NOT NULL CHECK (cardinality(scopes) <= 200),
    enabled             boolean     NOT NULL DEFAULT true,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL,
    version             bigint      NOT NULL DEFAULT 1,
    CHECK ((secret_hash IS NULL) = (hint IS NULL)),
    CHECK ((previous_hash IS NULL) = (previous_expires_at IS NULL))
);
CREATE INDEX oauth_clients_owner_id_idx ON oauth_clients (owner_id);
CREATE INDEX oauth_clients_created_at_idx ON oauth_clients (created_at, id);

-- What a person let an app have, until they take it back.
CREATE TABLE oauth_consents (
    user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id  uuid        NOT NULL REFERENCES oauth_clients (id) ON DELETE CASCADE,
    scopes     text[]      NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, client_id)
);
CREATE INDEX oauth_consents_client_id_idx ON oauth_consents (client_id);

-- What apps ask, until a person answers.
CREATE TABLE oauth_requests (
    token_hash     bytea       PRIMARY KEY,
    client_id      uuid        NOT NULL REFERENCES oauth_clients (id) ON DELETE CASCADE,
    redirect_uri   text        NOT NULL,
    scopes         text[]      NOT NULL,
    state          text,
    nonce          text,
    code_challenge text        NOT NULL,
    -- From where the browser came: the address, or the /64 of an IPv6 address.
    network        text,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL
);
CREATE INDEX oauth_requests_client_id_idx ON oauth_requests (client_id);
CREATE INDEX oauth_requests_created_at_idx ON oauth_requests (created_at);
CREATE INDEX oauth_requests_network_idx ON oauth_requests (network);

-- What an app was given at one time: all its tokens from then on stand and fall with it.
CREATE TABLE oauth_grants (
    id             uuid        PRIMARY KEY,
    client_id      uuid        NOT NULL REFERENCES oauth_clients (id) ON DELETE CASCADE,
    -- None: the app came in its own name.
    user_id        uuid        REFERENCES users (id) ON DELETE CASCADE,
    scopes         text[]      NOT NULL,
    -- How and when the person proved who they are.
    amr            text[]      NOT NULL DEFAULT '{}',
    auth_time      timestamptz NOT NULL,
    nonce          text,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    revoked_at     timestamptz,
    revoked_reason text
);
CREATE INDEX oauth_grants_client_id_idx ON oauth_grants (client_id, expires_at);
CREATE INDEX oauth_grants_user_id_idx ON oauth_grants (user_id, client_id);

CREATE TABLE oauth_codes (
    code_hash      bytea       PRIMARY KEY,
    grant_id       uuid        NOT NULL REFERENCES oauth_grants (id) ON DELETE CASCADE,
    redirect_uri   text        NOT NULL,
    code_challenge text        NOT NULL,
    expires_at     timestamptz NOT NULL,
    -- When it was presented; whoever comes after has a copy.
    used_at        timestamptz
);
CREATE INDEX oauth_codes_grant_id_idx ON oauth_codes (grant_id);

CREATE TABLE oauth_refresh_tokens (
    hash           bytea       PRIMARY KEY,
    grant_id       uuid        NOT NULL REFERENCES oauth_grants (id) ON DELETE CASCADE,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    rotated_at     timestamptz,
    successor_hash bytea
);
CREATE INDEX oauth_refresh_tokens_grant_id_idx ON oauth_refresh_tokens (grant_id);

-- A new tenant is seeded with them; those that are here already have their administrators.
INSERT INTO permissions (id, name, description) VALUES
    (gen_random_uuid(), 'oauth:read', 'See the apps that ask people for access'),
    (gen_random_uuid(), 'oauth:write', 'Decide which apps may ask people for access')
ON CONFLICT (name) DO NOTHING;
INSERT INTO role_permissions (role_id, permission_id)
SELECT r.id, p.id FROM roles r, permissions p
WHERE r.system AND r.name = 'admin' AND p.name IN ('oauth:read', 'oauth:write')
ON CONFLICT DO NOTHING;
