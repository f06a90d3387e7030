-- What was done in somebody's name by somebody else, for the tenant to read. Written in the transaction of the deed.
CREATE TABLE audit (
    id         uuid        PRIMARY KEY,
    at         timestamptz NOT NULL,
    -- `cli:account` or `operator:id`: people who run the installation.
    actor      text        NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    action     text        NOT NULL CHECK (action ~ '^[a-z_]+(\.[a-z_]+)*$'),
    -- In whose name.
    user_id    uuid        REFERENCES users (id) ON DELETE SET NULL,
    session_id uuid,
    reason     text        CHECK (length(reason) BETWEEN 1 AND 500)
);
CREATE INDEX audit_at_idx ON audit (at, id);
CREATE INDEX audit_user_id_idx ON audit (user_id);
