-- What has ended is kept for a while, and then swept; the comparison of catalogs is an operation too.

ALTER TABLE operations
    DROP CONSTRAINT operations_kind,
    ADD CONSTRAINT operations_kind CHECK (kind IN ('create', 'attach', 'delete', 'rotate_credentials', 'move', 'clone',
        'backup', 'restore', 'export', 'erase', 'drain', 'migrate', 'drift'));

-- The sweep looks for what ended long ago.
CREATE INDEX operations_finished_at ON operations (finished_at) WHERE finished_at IS NOT NULL;

-- A request with an `Idempotency-Key` finds what it has begun, though the one who began it died before it could say so.
CREATE INDEX operations_request ON operations ((input ->> 'request')) WHERE input ->> 'request' IS NOT NULL;
