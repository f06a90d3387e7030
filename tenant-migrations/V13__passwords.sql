-- What an organisation demands of passwords, and those that were used before.

ALTER TABLE security_policy
    -- Fewest characters of a password that is the only proof, and of one beside a second factor.
    ADD COLUMN password_min_length             integer NOT NULL DEFAULT 15 CHECK (password_min_length BETWEEN 8 AND 64),
    ADD COLUMN password_min_length_with_factor integer NOT NULL DEFAULT 8
        CHECK (password_min_length_with_factor BETWEEN 8 AND 64),
    -- How many earlier passwords must not be used again.
    ADD COLUMN password_history                integer NOT NULL DEFAULT 0 CHECK (password_history BETWEEN 0 AND 24),
    -- Words of the organisation that a password must not be made of.
    ADD COLUMN password_blocked_words          text[]  NOT NULL DEFAULT '{}'
        CHECK (cardinality(password_blocked_words) <= 1000);

-- Hashes of earlier passwords, where the policy asks for them.
CREATE TABLE password_history (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id       uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    password_hash text        NOT NULL,
    set_at        timestamptz NOT NULL
);
CREATE INDEX password_history_user_id_idx ON password_history (user_id, id);
