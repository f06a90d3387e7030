-- Passkeys (WebAuthn): as a second factor, or instead of a password.
CREATE TABLE passkeys (
    id            uuid        PRIMARY KEY,
    user_id       uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name          text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    credential_id bytea       NOT NULL CONSTRAINT passkeys_credential_id_key UNIQUE,
    -- Public key, counter, and whether it is synchronised.
    credential    jsonb       NOT NULL,
    created_at    timestamptz NOT NULL,
    last_used_at  timestamptz
);
CREATE INDEX passkeys_user_id_idx ON passkeys (user_id, created_at);

-- Challenges that wait for their answer; each is taken once.
CREATE TABLE passkey_ceremonies (
    id         uuid        PRIMARY KEY,
    -- None for a login: who it is, the passkey says.
    user_id    uuid        REFERENCES users (id) ON DELETE CASCADE,
    purpose    text        NOT NULL CHECK (purpose IN ('registration', 'second_factor', 'login')),
    state      jsonb       NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX passkey_ceremonies_user_id_idx ON passkey_ceremonies (user_id);
CREATE INDEX passkey_ceremonies_created_at_idx ON passkey_ceremonies (purpose, created_at);
