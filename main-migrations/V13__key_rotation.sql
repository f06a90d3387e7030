-- Tenants' signing keys are rotated: the next one is known before it signs, the former one until its tokens have ended.
ALTER TABLE signing_keys
    DROP CONSTRAINT signing_keys_alg_check,
    ADD CONSTRAINT signing_keys_alg_check CHECK (alg IN ('EdDSA', 'ES256')),
    -- The newest that has begun to sign, signs. Those that are here have.
    ADD COLUMN signs_from timestamptz NOT NULL DEFAULT '2000-01-01';
ALTER TABLE signing_keys ALTER COLUMN signs_from SET DEFAULT now();
