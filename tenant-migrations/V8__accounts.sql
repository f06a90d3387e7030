-- How people come to an account of their own, and back to it.

-- Since when it is known that the person reads what is sent to their address.
ALTER TABLE users ADD COLUMN email_verified_at timestamptz;

-- Whom the account belongs to, where it is linked with others at other organisations: an id that the control plane knows.
ALTER TABLE users ADD COLUMN person_id uuid;

-- Who may sign up: one row.
CREATE TABLE sign_up_policy (
    only_row     boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    -- None: as the operator of the service has set it.
    mode         text        CHECK (mode IN ('open', 'invite', 'domain', 'closed')),
    -- Of the addresses that may sign up with `domain`, in lower case.
    domains      text[]      NOT NULL DEFAULT '{}' CHECK (cardinality(domains) <= 100),
    -- Whether an account is made only once its address is known to be the person's.
    verify_email boolean     NOT NULL DEFAULT false,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    version      bigint      NOT NULL DEFAULT 1
);
INSERT INTO sign_up_policy DEFAULT VALUES;

-- Sign-ups whose address is not verified yet: nobody has an account by them, and nobody's address is taken.
CREATE TABLE registrations (
    id            uuid        PRIMARY KEY,
    token_hash    bytea       NOT NULL CONSTRAINT registrations_token_hash_key UNIQUE,
    email         text        NOT NULL CHECK (length(email) BETWEEN 3 AND 320),
    email_key     text        NOT NULL,
    first_name    text        NOT NULL DEFAULT '' CHECK (length(first_name) <= 100),
    last_name     text        NOT NULL DEFAULT '' CHECK (length(last_name) <= 100),
    password_hash text        NOT NULL,
    -- Links that were sent for it, and the mail with the latest.
    mails         integer     NOT NULL DEFAULT 0,
    mail_id       uuid,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL
);
CREATE INDEX registrations_email_key_idx ON registrations (email_key, created_at);
CREATE INDEX registrations_expires_at_idx ON registrations (expires_at);

-- Tokens of links in mails, each good once: who takes one deletes it.
CREATE TABLE account_tokens (
    hash       bytea       PRIMARY KEY,
    kind       text        NOT NULL CHECK (kind IN ('reset_password', 'verify_email')),
    user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The address that it was sent to: good for nothing once that is another one.
    email_key  text        NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX account_tokens_user_id_idx ON account_tokens (user_id, kind, created_at);

-- Another address that a person wants, agreed to from both.
CREATE TABLE email_changes (
    user_id      uuid        PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    email        text        NOT NULL CHECK (length(email) BETWEEN 3 AND 320),
    -- Of the links to either address; none once it was followed.
    old_hash     bytea       CONSTRAINT email_changes_old_hash_key UNIQUE,
    new_hash     bytea       CONSTRAINT email_changes_new_hash_key UNIQUE,
    -- The address that is to be replaced: with another one meanwhile, the change is void.
    old_key      text        NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL
);
