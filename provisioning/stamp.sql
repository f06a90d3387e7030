-- Whose database this is. Written once: a second stamp finds the row taken, and is then compared by the reader.
-- Where an administrator runs it, the tenant's role can read the stamp and nothing else, also as the database's owner.
-- Variables: role, tenant_id, installation_id.
CREATE SCHEMA IF NOT EXISTS tenantry;
CREATE TABLE IF NOT EXISTS tenantry.stamp (
    only_row        boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    tenant_id       uuid        NOT NULL,
    installation_id uuid        NOT NULL,
    stamped_at      timestamptz NOT NULL DEFAULT now()
);
INSERT INTO tenantry.stamp (tenant_id, installation_id) VALUES (:'tenant_id', :'installation_id')
ON CONFLICT (only_row) DO NOTHING;
GRANT USAGE ON SCHEMA tenantry TO pg_database_owner, :"role";
GRANT SELECT ON tenantry.stamp TO pg_database_owner, :"role";
