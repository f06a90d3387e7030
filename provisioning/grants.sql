-- In a template, or a copy: what is made there belongs to whoever owns the database, by the role that PostgreSQL has for
-- that, so that a clone is its owner's as it is. The schema of the stamp stays the administrator's: no tenant drops it.
-- Safe to repeat.
CREATE SCHEMA IF NOT EXISTS tenantry;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT ALL ON SCHEMA public TO pg_database_owner;
GRANT USAGE, CREATE ON SCHEMA tenantry TO pg_database_owner;

-- What a template of an earlier release held, where it is one's clone.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
        WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname = 'tenantry_template_owner'
          AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) THEN
        REASSIGN OWNED BY tenantry_template_owner TO pg_database_owner;
        REVOKE ALL ON SCHEMA public, tenantry FROM tenantry_template_owner;
    END IF;
END
$$;
