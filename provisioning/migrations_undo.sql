-- In a dedicated database that was empty when it was attached: everything its role has made since goes.
-- Run by that role. What an extension brought stays with the extension.
DO $$
DECLARE
    statement text;
BEGIN
    FOREACH statement IN ARRAY ARRAY(
        SELECT format('DROP SCHEMA IF EXISTS %I CASCADE', nspname) FROM pg_namespace
        WHERE nspowner = current_user::regrole AND nspname NOT LIKE 'pg\_%' AND nspname <> 'public'
    UNION ALL
        SELECT format('DROP %s IF EXISTS %s.%I CASCADE',
                      CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                                   WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END,
                      relnamespace::regnamespace, relname)
        FROM pg_class c
        WHERE relnamespace::regnamespace::text NOT LIKE 'pg\_%' AND relowner = current_user::regrole
          AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND NOT relispartition
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i', 'e'))
    UNION ALL
        SELECT format('DROP ROUTINE IF EXISTS public.%I(%s) CASCADE', proname, pg_get_function_identity_arguments(p.oid))
        FROM pg_proc p
        WHERE pronamespace = 'public'::regnamespace AND proowner = current_user::regrole
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    UNION ALL
        SELECT format('DROP TYPE IF EXISTS public.%I CASCADE', typname) FROM pg_type t
        WHERE typnamespace = 'public'::regnamespace AND typowner = current_user::regrole AND typtype IN ('e', 'd', 'r')
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
    UNION ALL
        SELECT format('SELECT lo_unlink(%s)', oid) FROM pg_largeobject_metadata WHERE lomowner = current_user::regrole
    ) LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
