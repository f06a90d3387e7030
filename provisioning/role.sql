-- The tenant's own role. Safe to repeat: an existing role is set right.
-- Variables: role, verifier (SCRAM-SHA-256$…; a clear password never travels), connection_limit.
SELECT set_config('tenantry.role', :'role', false);

DO $$
DECLARE
    role text := current_setting('tenantry.role');
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        EXECUTE format('CREATE ROLE %I', role);
    END IF;
    -- An administrator that is no superuser has to be a member of whoever owns what it makes.
    IF NOT pg_has_role(current_user, role, 'USAGE') THEN
        EXECUTE format('GRANT %I TO CURRENT_USER', role);
    END IF;
END
$$;

ALTER ROLE :"role" WITH LOGIN NOCREATEDB NOCREATEROLE INHERIT
    CONNECTION LIMIT :connection_limit PASSWORD :'verifier';
