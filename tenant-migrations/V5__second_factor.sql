-- The second factor of people, and for whom their organisation demands one.

CREATE TABLE second_factors (
    user_id      uuid        PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- Seed of the one-time codes, sealed by the application.
    totp_sealed  bytea       NOT NULL,
    -- It counts once a first code of it was shown.
    confirmed_at timestamptz,
    -- The newest time step whose code was taken: each code is good once.
    last_step    bigint      NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL
);

-- Codes for whoever lost the device; a used one is deleted.
CREATE TABLE recovery_codes (
    user_id uuid  NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    digest  bytea NOT NULL,
    PRIMARY KEY (user_id, digest)
);

-- Logins that wait for their second half.
CREATE TABLE mfa_challenges (
    token_hash bytea       PRIMARY KEY,
    user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The person's when the password was right: with another one, the login begins anew.
    auth_version bigint    NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX mfa_challenges_user_id_idx ON mfa_challenges (user_id, created_at);

-- Devices that are asked for no second factor.
CREATE TABLE trusted_devices (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_hash   bytea       NOT NULL CONSTRAINT trusted_devices_token_hash_key UNIQUE,
    ip           text,
    user_agent   text,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL
);
CREATE INDEX trusted_devices_user_id_idx ON trusted_devices (user_id, created_at);

-- What an organisation demands of its people: one row.
CREATE TABLE security_policy (
    only_row           boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Roles whose people need a second factor.
    mfa_required_roles text[]      NOT NULL DEFAULT '{}' CHECK (cardinality(mfa_required_roles) <= 100),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    version            bigint      NOT NULL DEFAULT 1
);
INSERT INTO security_policy DEFAULT VALUES;

-- A new tenant is seeded with them; those that are here already have their administrators.
INSERT INTO permissions (id, name, description) VALUES
    (gen_random_uuid(), 'security:read', 'See what the organisation demands of its people'),
    (gen_random_uuid(), 'security:write', 'Decide what the organisation demands of its people')
ON CONFLICT (name) DO NOTHING;
INSERT INTO role_permissions (role_id, permission_id)
SELECT r.id, p.id FROM roles r, permissions p
WHERE r.system AND r.name = 'admin' AND p.name IN ('security:read', 'security:write')
ON CONFLICT DO NOTHING;
