-- Keys for programs that work in the name of one person, with some of that person's rights.

CREATE TABLE api_keys (
    id                  uuid        PRIMARY KEY,
    name                text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    -- Whose rights bound what the key may do, at every use. It goes with them.
    owner_id            uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key_hash            bytea       NOT NULL CONSTRAINT api_keys_key_hash_key UNIQUE,
    -- Its end, to tell keys apart by.
    hint                text        NOT NULL,
    -- Names of permissions.
    scopes              text[]      NOT NULL CHECK (cardinality(scopes) <= 200),
    -- Networks that it may come from; from everywhere, if there are none.
    allowed_addresses   text[]      NOT NULL DEFAULT '{}' CHECK (cardinality(allowed_addresses) <= 50),
    requests_per_minute integer     CHECK (requests_per_minute BETWEEN 1 AND 1000000),
    expires_at          timestamptz,
    -- The key before the last rotation, for as long as both are good.
    previous_hash       bytea       CONSTRAINT api_keys_previous_hash_key UNIQUE,
    previous_expires_at timestamptz,
    last_used_at        timestamptz,
    last_used_ip        text,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL,
    version             bigint      NOT NULL DEFAULT 1,
    CHECK ((previous_hash IS NULL) = (previous_expires_at IS NULL))
);
CREATE INDEX api_keys_owner_id_idx ON api_keys (owner_id);
CREATE INDEX api_keys_created_at_idx ON api_keys (created_at, id);

-- A new tenant is seeded with them; those that are here already have their administrators.
INSERT INTO permissions (id, name, description) VALUES
    (gen_random_uuid(), 'roles:write', 'Make, change and remove roles'),
    (gen_random_uuid(), 'api-keys:read', 'See the API keys'),
    (gen_random_uuid(), 'api-keys:write', 'Make, change and revoke API keys')
ON CONFLICT (name) DO NOTHING;
INSERT INTO role_permissions (role_id, permission_id)
SELECT r.id, p.id FROM roles r, permissions p
WHERE r.system AND r.name = 'admin' AND p.name IN ('roles:write', 'api-keys:read', 'api-keys:write')
ON CONFLICT DO NOTHING;
