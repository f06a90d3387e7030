-- Signing in through others: identity providers, sign-ins under way, and whose account there is whose here.

CREATE TABLE identity_providers (
    id                   uuid        PRIMARY KEY,
    -- Its name in addresses.
    slug                 text        NOT NULL CONSTRAINT identity_providers_slug_key UNIQUE
                                     CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name                 text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    kind                 text        NOT NULL CHECK (kind IN ('oidc', 'google', 'github')),
    issuer               text        NOT NULL CHECK (length(issuer) BETWEEN 1 AND 2048),
    client_id            text        NOT NULL CHECK (length(client_id) BETWEEN 1 AND 500),
    -- None for a client without one, which proves itself by PKCE alone.
    client_secret_sealed bytea,
    scopes               text[]      NOT NULL CHECK (cardinality(scopes) <= 20),
    -- Where the provider may send people back to.
    redirect_uris        text[]      NOT NULL CHECK (cardinality(redirect_uris) BETWEEN 1 AND 20),
    -- People with a verified address of these domains get an account when they first come.
    allowed_domains      text[]      NOT NULL DEFAULT '{}' CHECK (cardinality(allowed_domains) <= 50),
    default_role_id      uuid        REFERENCES roles (id) ON DELETE SET NULL,
    -- Permissions of whoever made it so: it lets nobody in by their address alone who may do more.
    ceiling              text[]      NOT NULL CHECK (cardinality(ceiling) <= 1000),
    enabled              boolean     NOT NULL DEFAULT true,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    version              bigint      NOT NULL DEFAULT 1
);
CREATE INDEX identity_providers_default_role_id_idx ON identity_providers (default_role_id);

-- Who somebody is at a provider: the pair of issuer and subject, never an address.
CREATE TABLE social_accounts (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    provider_id  uuid        NOT NULL REFERENCES identity_providers (id) ON DELETE CASCADE,
    issuer       text        NOT NULL,
    subject      text        NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
    -- As the provider last said, for its person to tell accounts apart by.
    email        text        CHECK (length(email) <= 320),
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    CONSTRAINT social_accounts_subject_key UNIQUE (issuer, subject)
);
CREATE INDEX social_accounts_user_id_idx ON social_accounts (user_id);
CREATE INDEX social_accounts_provider_id_idx ON social_accounts (provider_id);

-- Sign-ins that have begun here and go on at a provider.
CREATE TABLE federation_states (
    state_hash   bytea       PRIMARY KEY,
    provider_id  uuid        NOT NULL REFERENCES identity_providers (id) ON DELETE CASCADE,
    redirect_uri text        NOT NULL,
    -- Whose account it is to be linked to, and in which of their sessions that was asked; none for a sign-in.
    session_id   uuid        REFERENCES sessions (id) ON DELETE CASCADE,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL
);
CREATE INDEX federation_states_provider_id_idx ON federation_states (provider_id);
CREATE INDEX federation_states_session_id_idx ON federation_states (session_id);
CREATE INDEX federation_states_created_at_idx ON federation_states (created_at);

-- Of the logins that wait for their second half, those whose first half was a provider's.
CREATE TABLE federated_challenges (
    token_hash bytea PRIMARY KEY REFERENCES mfa_challenges (token_hash) ON DELETE CASCADE
);

-- A new tenant is seeded with them; those that are here already have their administrators.
INSERT INTO permissions (id, name, description) VALUES
    (gen_random_uuid(), 'identity-providers:read', 'See through whom people sign in'),
    (gen_random_uuid(), 'identity-providers:write', 'Decide through whom people sign in')
ON CONFLICT (name) DO NOTHING;
INSERT INTO role_permissions (role_id, permission_id)
SELECT r.id, p.id FROM roles r, permissions p
WHERE r.system AND r.name = 'admin' AND p.name IN ('identity-providers:read', 'identity-providers:write')
ON CONFLICT DO NOTHING;
