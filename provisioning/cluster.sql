-- Prepares a server, once, in its administrative database: nobody may connect somewhere only because he has a role.
-- Variables: control_database and control_role (the control plane's, where it lives on this server; else empty).
SELECT set_config('tenantry.control_database', :'control_database', false),
       set_config('tenantry.control_role', :'control_role', false);

DO $$
DECLARE
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(7305804402566593140); -- one node at a time
    -- First of all, who works here keeps his own way in.
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO CURRENT_USER', current_database());
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = current_setting('tenantry.control_role')) THEN
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I',
                       current_setting('tenantry.control_database'), current_setting('tenantry.control_role'));
    END IF;
    FOR name IN
        SELECT datname FROM pg_database
        WHERE datname IN ('postgres', 'template1', current_database(), current_setting('tenantry.control_database'))
          AND has_database_privilege('public', oid, 'CONNECT')
    LOOP
        BEGIN
            EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', name);
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING 'CONNECT on % stays with PUBLIC: only its owner can revoke it', name;
        END;
    END LOOP;
END
$$;
