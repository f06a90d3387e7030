-- Mail on its way to people, and what an organisation says in it in its own words.

-- What is to be sent, written in the transaction of what it tells of. A node that sends takes rows for a while by moving
-- `next_attempt_at`: one that dies leaves them to the next.
CREATE TABLE mail_outbox (
    id              uuid        PRIMARY KEY,
    kind            text        NOT NULL CHECK (kind ~ '^[a-z]+(-[a-z]+)*$'),
    user_id         uuid        REFERENCES users (id) ON DELETE SET NULL,
    -- To whom and what, sealed by the application; gone as soon as the mail is.
    parcel_sealed   bytea,
    state           text        NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sent', 'dropped', 'given_up')),
    attempts        integer     NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    -- Why the last attempt failed, in the words of this program.
    fault           text        CHECK (length(fault) <= 200),
    CHECK ((state = 'queued') = (finished_at IS NULL)),
    CHECK ((state = 'queued') = (parcel_sealed IS NOT NULL))
);
CREATE INDEX mail_outbox_due_idx ON mail_outbox (next_attempt_at, id) WHERE state = 'queued';
CREATE INDEX mail_outbox_finished_idx ON mail_outbox (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX mail_outbox_user_id_idx ON mail_outbox (user_id);

-- What stands in place of the built-in words.
CREATE TABLE mail_templates (
    name       text        NOT NULL CHECK (name ~ '^[a-z]+(-[a-z]+)*$'),
    language   text        NOT NULL CHECK (language ~ '^[a-z]{2}$'),
    subject    text        NOT NULL CHECK (length(subject) BETWEEN 1 AND 200),
    body_text  text        NOT NULL CHECK (length(body_text) BETWEEN 1 AND 20000),
    -- None: made of the text.
    body_html  text        CHECK (length(body_html) BETWEEN 1 AND 60000),
    updated_at timestamptz NOT NULL,
    version    bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (name, language)
);

-- One row.
CREATE TABLE mail_settings (
    only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Of whoever has chosen none.
    language   text        NOT NULL DEFAULT 'en' CHECK (language ~ '^[a-z]{2}$'),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version    bigint      NOT NULL DEFAULT 1
);
INSERT INTO mail_settings DEFAULT VALUES;

-- In which a person wants to be written to.
ALTER TABLE users ADD COLUMN language text CHECK (language ~ '^[a-z]{2}$');

-- A new tenant is seeded with them; those that are here already have their administrators.
INSERT INTO permissions (id, name, description) VALUES
    (gen_random_uuid(), 'mail:read', 'See the words of the mails that people get'),
    (gen_random_uuid(), 'mail:write', 'Change the words of the mails that people get')
ON CONFLICT (name) DO NOTHING;
INSERT INTO role_permissions (role_id, permission_id)
SELECT r.id, p.id FROM roles r, permissions p
WHERE r.system AND r.name = 'admin' AND p.name IN ('mail:read', 'mail:write')
ON CONFLICT DO NOTHING;
