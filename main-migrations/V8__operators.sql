-- Operators with narrower roles, a second factor, sessions one can look at, and what each of them did.

ALTER TABLE operators
    DROP CONSTRAINT operators_role_check,
    ADD CONSTRAINT operators_role CHECK (role IN ('admin', 'support', 'owner')),
    -- The seed of the second factor; it counts once a code of it was shown.
    ADD COLUMN totp_sealed bytea,
    ADD COLUMN totp_confirmed_at timestamptz,
    -- The last time step whose code was taken: a code is good once.
    ADD COLUMN totp_step bigint NOT NULL DEFAULT 0;

-- The tenants of an owner.
CREATE TABLE operator_tenants (
    operator_id uuid NOT NULL REFERENCES operators (id) ON DELETE CASCADE,
    tenant_id   uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    PRIMARY KEY (operator_id, tenant_id)
);
CREATE INDEX operator_tenants_tenant_id ON operator_tenants (tenant_id);

-- Digests of the codes for whoever lost the second factor, each good once.
CREATE TABLE operator_recovery_codes (
    operator_id uuid NOT NULL REFERENCES operators (id) ON DELETE CASCADE,
    digest      bytea NOT NULL,
    PRIMARY KEY (operator_id, digest)
);

ALTER TABLE operator_sessions
    ADD COLUMN address text,
    ADD COLUMN user_agent text,
    ADD COLUMN second_factor boolean NOT NULL DEFAULT false;

-- What operators did, over REST and on the command line. Written before it is done: what was tried is here even if the
-- node died over it. It outlives operators and tenants, hence no foreign keys.
CREATE TABLE operator_audit (
    id          uuid PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    operator_id uuid,
    -- An operator's address, or `cli:` and the account of the machine.
    actor       text NOT NULL,
    -- `POST /api/v1/admin/tenants/{id}/suspend`, or `tenant suspend`.
    action      text NOT NULL,
    -- What it was done to, as it was named.
    target      text,
    address     text,
    request_id  text,
    -- `done`, `refused` or `failed`; none while it is under way, or if the node died.
    outcome     text CHECK (outcome IN ('done', 'refused', 'failed')),
    finished_at timestamptz
);
CREATE INDEX operator_audit_at ON operator_audit (at);
