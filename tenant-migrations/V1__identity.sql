-- Who may come in, and what they may do: people, roles, sessions, and the memory of requests already answered.
--
-- Ids are UUIDv7, given by the application. Times are UTC. `version` grows with every change of a row and is its ETag.

CREATE TABLE users (
    id                       uuid        PRIMARY KEY,
    email                    text        NOT NULL CHECK (length(email) BETWEEN 3 AND 320),
    -- The address trimmed and in lower case: what makes it the same address.
    email_key                text        NOT NULL CONSTRAINT users_email_key UNIQUE,
    first_name               text        NOT NULL DEFAULT '' CHECK (length(first_name) <= 100),
    last_name                text        NOT NULL DEFAULT '' CHECK (length(last_name) <= 100),
    status                   text        NOT NULL CHECK (status IN ('active', 'invited', 'deactivated')),
    -- Argon2id in PHC form; none until an invited person has chosen one.
    password_hash            text,
    password_change_required boolean     NOT NULL DEFAULT false,
    -- The `ver` claim: grows whenever what this person may do changes.
    auth_version             bigint      NOT NULL DEFAULT 1,
    created_at               timestamptz NOT NULL DEFAULT now(),
    updated_at               timestamptz NOT NULL DEFAULT now(),
    version                  bigint      NOT NULL DEFAULT 1
);
CREATE INDEX users_created_at_idx ON users (created_at, id);
CREATE INDEX users_last_name_idx ON users (last_name, id);

CREATE TABLE roles (
    id          uuid        PRIMARY KEY,
    name        text        NOT NULL CONSTRAINT roles_name_key UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    description text        NOT NULL DEFAULT '',
    -- Made by the product: neither renamed nor removed.
    system      boolean     NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    version     bigint      NOT NULL DEFAULT 1
);

CREATE TABLE permissions (
    id          uuid PRIMARY KEY,
    -- `resource:action`.
    name        text NOT NULL CONSTRAINT permissions_name_key UNIQUE CHECK (name ~ '^[a-z-]+:[a-z-]+$'),
    description text NOT NULL DEFAULT ''
);

CREATE TABLE role_permissions (
    role_id       uuid NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    permission_id uuid NOT NULL REFERENCES permissions (id) ON DELETE CASCADE,
    PRIMARY KEY (role_id, permission_id)
);
CREATE INDEX role_permissions_permission_id_idx ON role_permissions (permission_id);

CREATE TABLE user_roles (
    user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role_id    uuid        NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    granted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, role_id)
);
CREATE INDEX user_roles_role_id_idx ON user_roles (role_id);

-- The truth about who is signed in: an access token is worth nothing once its session has ended.
CREATE TABLE sessions (
    id             uuid        PRIMARY KEY,
    user_id        uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at     timestamptz NOT NULL,
    last_used_at   timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    revoked_at     timestamptz,
    revoked_reason text,
    ip             text,
    user_agent     text,
    -- How (RFC 8176) and when the person proved who they are.
    amr            text[]      NOT NULL,
    auth_time      timestamptz NOT NULL,
    CHECK ((revoked_at IS NULL) = (revoked_reason IS NULL))
);
CREATE INDEX sessions_user_id_idx ON sessions (user_id, created_at);

-- One family per session. Only hashes are kept; a rotated token stays until it expires, so that its reuse is noticed.
CREATE TABLE refresh_tokens (
    hash           bytea       PRIMARY KEY,
    session_id     uuid        NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    rotated_at     timestamptz,
    successor_hash bytea,
    CHECK ((rotated_at IS NULL) = (successor_hash IS NULL))
);
CREATE INDEX refresh_tokens_session_id_idx ON refresh_tokens (session_id);

CREATE TABLE invitations (
    id          uuid        PRIMARY KEY,
    user_id     uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_hash  bytea       NOT NULL CONSTRAINT invitations_token_hash_key UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    accepted_at timestamptz
);
CREATE INDEX invitations_user_id_idx ON invitations (user_id);

-- The login history, and what the lockout counts. An address nobody has is kept as a keyed hash alone.
CREATE TABLE login_attempts (
    id         uuid        PRIMARY KEY,
    email_hash bytea       NOT NULL,
    user_id    uuid        REFERENCES users (id) ON DELETE CASCADE,
    at         timestamptz NOT NULL,
    outcome    text        NOT NULL CHECK (outcome IN ('succeeded', 'failed')),
    ip         text,
    user_agent text
);
CREATE INDEX login_attempts_email_hash_idx ON login_attempts (email_hash, at);
CREATE INDEX login_attempts_user_id_idx ON login_attempts (user_id, at, id);
-- Attempts on addresses that nobody has are swept after the lockout has forgotten them.
CREATE INDEX login_attempts_unknown_idx ON login_attempts (at) WHERE user_id IS NULL;

-- Answers already given, by Idempotency-Key, in the transaction of their effect.
CREATE TABLE idempotency_records (
    scope       text        NOT NULL,
    key         text        NOT NULL,
    fingerprint bytea       NOT NULL,
    status      integer     NOT NULL,
    headers     jsonb       NOT NULL,
    -- None where the answer carried a secret.
    body        jsonb,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_records_expires_at_idx ON idempotency_records (expires_at);
