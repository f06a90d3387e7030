-- Every longer work on a tenant, a cluster or the fleet is an operation: a list of named steps, each safe to repeat,
-- journaled here, resumable after a crash at any point. Operators see it as a job.

ALTER TABLE provisionings RENAME TO operations;
ALTER TABLE provisioning_steps RENAME TO operation_steps;
ALTER TABLE operation_steps RENAME COLUMN provisioning_id TO operation_id;
ALTER INDEX provisionings_tenant_id RENAME TO operations_tenant_id;
DROP INDEX provisionings_one_running;

ALTER TABLE operations
    -- Neither for work on a cluster or the fleet.
    ALTER COLUMN tenant_id DROP NOT NULL,
    ALTER COLUMN slug DROP NOT NULL,
    -- A worker drives it, and goes on with it when the node that did so is gone; else the command that began it.
    ADD COLUMN background boolean NOT NULL DEFAULT false,
    -- What came of it. As `input`: neither secrets nor anything personal of a tenant's people.
    ADD COLUMN result jsonb,
    -- How far it has come, and of how much.
    ADD COLUMN progress_done bigint,
    ADD COLUMN progress_total bigint,
    -- Somebody asked that it stop at the next safe point.
    ADD COLUMN cancel_requested boolean NOT NULL DEFAULT false,
    ADD COLUMN requested_by uuid REFERENCES operators (id) ON DELETE SET NULL,
    DROP CONSTRAINT provisionings_kind_check,
    DROP CONSTRAINT provisionings_state_check,
    DROP CONSTRAINT provisionings_finished_has_time;
ALTER TABLE operations
    ADD CONSTRAINT operations_kind CHECK (kind IN ('create', 'attach', 'delete', 'rotate_credentials', 'move', 'clone',
        'backup', 'restore', 'export', 'erase', 'drain', 'migrate')),
    ADD CONSTRAINT operations_state CHECK (state IN ('queued', 'running', 'done', 'failed', 'undone', 'cancelled')),
    ADD CONSTRAINT operations_finished_has_time CHECK ((state IN ('queued', 'running')) = (finished_at IS NULL)),
    ADD CONSTRAINT operations_tenant_has_slug CHECK ((tenant_id IS NULL) = (slug IS NULL));

-- One at a time on a tenant.
CREATE UNIQUE INDEX operations_one_open ON operations (tenant_id)
    WHERE tenant_id IS NOT NULL AND state IN ('queued', 'running');
CREATE INDEX operations_requested_by ON operations (requested_by);
-- A worker looks for what waits for it.
CREATE INDEX operations_waiting ON operations (started_at) WHERE background AND state IN ('queued', 'running');

UPDATE operations SET background = true WHERE input @> '{"deferred": true}';

-- What a step found out that a later one needs, or the operator wants to know.
ALTER TABLE operation_steps ADD COLUMN output jsonb;
