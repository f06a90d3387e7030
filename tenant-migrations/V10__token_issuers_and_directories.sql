-- Others who are believed: issuers of access tokens, and directories of people.

CREATE TABLE token_issuers (
    id            uuid        PRIMARY KEY,
    name          text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    issuer        text        NOT NULL CONSTRAINT token_issuers_issuer_key UNIQUE CHECK (length(issuer) BETWEEN 1 AND 2048),
    audience      text        NOT NULL CHECK (length(audience) BETWEEN 1 AND 500),
    -- Where its public keys are; or a secret that is shared with it.
    jwks_url      text        CHECK (length(jwks_url) <= 2048),
    secret_sealed bytea,
    -- By what its subjects are known here: `subject` (as at the identity provider of this issuer), `email`, `user_id`.
    match_by      text        NOT NULL CHECK (match_by IN ('subject', 'email', 'user_id')),
    email_claim   text        NOT NULL DEFAULT 'email' CHECK (length(email_claim) BETWEEN 1 AND 100),
    -- The claim whose words stand for roles; without one the bearer has their own.
    roles_claim   text        CHECK (length(roles_claim) BETWEEN 1 AND 100),
    -- Permissions of whoever made it so: no bearer has others.
    ceiling       text[]      NOT NULL CHECK (cardinality(ceiling) <= 1000),
    enabled       boolean     NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    version       bigint      NOT NULL DEFAULT 1,
    CHECK ((jwks_url IS NULL) <> (secret_sealed IS NULL))
);

CREATE TABLE token_issuer_roles (
    issuer_id uuid NOT NULL REFERENCES token_issuers (id) ON DELETE CASCADE,
    word      text NOT NULL CHECK (length(word) BETWEEN 1 AND 200),
    role_id   uuid NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    PRIMARY KEY (issuer_id, word, role_id)
);
CREATE INDEX token_issuer_roles_role_id_idx ON token_issuer_roles (role_id);

-- Tokens of directories (SCIM), which work in the name of one person with that person's rights.
CREATE TABLE scim_tokens (
    id           uuid        PRIMARY KEY,
    name         text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    owner_id     uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_hash   bytea       NOT NULL CONSTRAINT scim_tokens_token_hash_key UNIQUE,
    -- Its end, to tell tokens apart by.
    hint         text        NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz,
    created_at   timestamptz NOT NULL
);
CREATE INDEX scim_tokens_owner_id_idx ON scim_tokens (owner_id);

-- What directories call people and roles.
CREATE TABLE scim_users (
    user_id       uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    user_name     text NOT NULL CHECK (length(user_name) BETWEEN 1 AND 320),
    user_name_key text NOT NULL CONSTRAINT scim_users_user_name_key UNIQUE,
    external_id   text CHECK (length(external_id) <= 500)
);
CREATE INDEX scim_users_external_id_idx ON scim_users (external_id);
CREATE TABLE scim_groups (
    role_id     uuid    PRIMARY KEY REFERENCES roles (id) ON DELETE CASCADE,
    external_id text    CHECK (length(external_id) <= 500),
    -- Whether a directory made the role.
    made        boolean NOT NULL
);

-- A new tenant is seeded with them; those that are here already have their administrators.
INSERT INTO permissions (id, name, description) VALUES
    (gen_random_uuid(), 'token-issuers:read', 'See whose access tokens are taken'),
    (gen_random_uuid(), 'token-issuers:write', 'Decide whose access tokens are taken'),
    (gen_random_uuid(), 'scim-tokens:read', 'See the tokens of directories'),
    (gen_random_uuid(), 'scim-tokens:write', 'Let directories manage people, and stop them')
ON CONFLICT (name) DO NOTHING;
INSERT INTO role_permissions (role_id, permission_id)
SELECT r.id, p.id FROM roles r, permissions p
WHERE r.system AND r.name = 'admin'
AND p.name IN ('token-issuers:read', 'token-issuers:write', 'scim-tokens:read', 'scim-tokens:write')
ON CONFLICT DO NOTHING;
