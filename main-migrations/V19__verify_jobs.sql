-- The proof of isolation is an operation too, one at a time.

ALTER TABLE operations
    DROP CONSTRAINT operations_kind,
    ADD CONSTRAINT operations_kind CHECK (kind IN ('create', 'attach', 'delete', 'rotate_credentials', 'move', 'clone',
        'backup', 'restore', 'export', 'erase', 'drain', 'migrate', 'drift', 'verify'));

CREATE UNIQUE INDEX operations_one_verification ON operations (kind)
    WHERE kind = 'verify' AND state IN ('queued', 'running');
