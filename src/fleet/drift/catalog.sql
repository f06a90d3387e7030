-- What a tenant's database consists of, one fact for each row: the object, the one it is part of, what is said of it.
-- $1 is the tenant's role: it is called `its role`, so that two tenants' catalogs can be compared, and so is the one by which
-- it has what its database holds (of tenants of earlier releases it owns that itself). Read with
-- `search_path = pg_catalog`, so that every name stands with its schema. What an extension brought is the extension's.
WITH who AS (
    SELECT oid, CASE WHEN rolname IN ($1, 'pg_database_owner') THEN 'its role'
                     WHEN rolsuper OR rolname = current_user THEN 'an administrator' ELSE rolname::text END AS name
    FROM pg_roles
    UNION ALL SELECT 0, 'everybody'
), spaces AS (
    SELECT oid, nspname::text AS name, nspowner, nspacl FROM pg_namespace
    WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
), brought AS (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
), relations AS (
    SELECT c.*, s.name || '.' || c.relname AS name,
           CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
                          WHEN 'f' THEN 'foreign table' WHEN 'c' THEN 'type' ELSE 'table' END AS word
    FROM pg_class c JOIN spaces s ON s.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
      AND NOT EXISTS (SELECT FROM brought b WHERE b.classid = 'pg_class'::regclass AND b.objid = c.oid)
), routines AS (
    SELECT p.*, s.name || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS name
    FROM pg_proc p JOIN spaces s ON s.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM brought b WHERE b.classid = 'pg_proc'::regclass AND b.objid = p.oid)
), types AS (
    SELECT t.*, s.name || '.' || t.typname AS name FROM pg_type t JOIN spaces s ON s.oid = t.typnamespace
    WHERE t.typtype IN ('e', 'd', 'r')
      AND NOT EXISTS (SELECT FROM brought b WHERE b.classid = 'pg_type'::regclass AND b.objid = t.oid)
), rights AS (
    SELECT 'schema ' || name AS object, coalesce(nspacl, acldefault('n', nspowner)) AS acl FROM spaces
    UNION ALL
    SELECT word || ' ' || name,
           coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, relowner))
    FROM relations WHERE relkind <> 'c'
    UNION ALL
    SELECT 'function ' || name, coalesce(proacl, acldefault('f', proowner)) FROM routines
    UNION ALL
    SELECT 'column ' || r.name || '.' || a.attname, a.attacl FROM pg_attribute a JOIN relations r ON r.oid = a.attrelid
    WHERE a.attacl IS NOT NULL AND NOT a.attisdropped
    UNION ALL
    SELECT 'default privileges of ' || w.name, d.defaclacl FROM pg_default_acl d JOIN who w ON w.oid = d.defaclrole
    UNION ALL
    SELECT 'database', coalesce(datacl, acldefault('d', datdba)) FROM pg_database WHERE datname = current_database()
), attributes AS (
    SELECT 'column ' || r.name || '.' || a.attname AS object, r.word || ' ' || r.name AS part_of, a.*,
           pg_get_expr(d.adbin, d.adrelid) AS expression
    FROM pg_attribute a JOIN relations r ON r.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attnum > 0 AND NOT a.attisdropped AND r.relkind IN ('r', 'p', 'f', 'c')
), facts (object, part_of, aspect, value) AS (
    SELECT 'database', '', 'owner', w.name FROM pg_database d JOIN who w ON w.oid = d.datdba
    WHERE d.datname = current_database()
    UNION ALL
    SELECT 'role', '', 'may', concat_ws(', ', CASE WHEN rolcanlogin THEN 'log in' END,
        CASE WHEN rolsuper THEN 'anything (superuser)' END,
        CASE WHEN rolcreaterole THEN 'make roles' END, CASE WHEN rolcreatedb THEN 'make databases' END,
        CASE WHEN rolreplication THEN 'replicate' END, CASE WHEN rolbypassrls THEN 'pass row-level security' END)
    FROM pg_roles WHERE rolname = $1
    UNION ALL
    SELECT 'role', '', 'member of', coalesce(string_agg(g.rolname::text, ', ' ORDER BY g.rolname), '')
    FROM pg_roles r LEFT JOIN pg_auth_members m ON m.member = r.oid LEFT JOIN pg_roles g ON g.oid = m.roleid
    WHERE r.rolname = $1
    UNION ALL
    -- Whoever made the role is a member: an administrator of now, or of before.
    SELECT 'role', '', 'members', coalesce(string_agg(DISTINCT w.name, ', ')
               FILTER (WHERE w.name <> 'an administrator' AND NOT (a.rolcreaterole AND a.rolcreatedb)), '')
    FROM pg_roles r LEFT JOIN pg_auth_members m ON m.roleid = r.oid LEFT JOIN who w ON w.oid = m.member
    LEFT JOIN pg_roles a ON a.oid = m.member
    WHERE r.rolname = $1
    UNION ALL
    -- Provisioning sets none of these; what holds for the whole server holds in the reference as well.
    SELECT CASE WHEN t.setrole = 0 THEN 'database' ELSE 'role' END, '', 'settings', string_agg(c.setting, ', ' ORDER BY c.setting)
    FROM pg_db_role_setting t, unnest(t.setconfig) AS c (setting)
    WHERE t.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
      AND t.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = $1)) AND (t.setdatabase, t.setrole) <> (0, 0)
    GROUP BY 1
    UNION ALL
    SELECT 'schema ' || s.name, '', 'owner', w.name FROM spaces s JOIN who w ON w.oid = s.nspowner
    UNION ALL
    SELECT 'extension ' || extname, '', 'is', 'there' FROM pg_extension WHERE extname <> 'plpgsql'
    UNION ALL
    SELECT 'extension ' || extname, '', 'version', extversion FROM pg_extension WHERE extname <> 'plpgsql'
    UNION ALL
    SELECT r.word || ' ' || r.name, CASE WHEN r.relkind = 'c' THEN '' ELSE coalesce('table ' || (
               SELECT t.name FROM pg_depend d JOIN relations t ON t.oid = d.refobjid
               WHERE r.relkind = 'S' AND d.classid = 'pg_class'::regclass AND d.objid = r.oid
                 AND d.deptype IN ('a', 'i') LIMIT 1), '') END,
           'owner', w.name
    FROM relations r JOIN who w ON w.oid = r.relowner
    UNION ALL
    SELECT r.word || ' ' || r.name, '', 'row-level security',
           CASE WHEN r.relrowsecurity AND r.relforcerowsecurity THEN 'forced' WHEN r.relrowsecurity THEN 'on'
                WHEN r.relforcerowsecurity THEN 'off (forced once it is on)' ELSE 'off' END
    FROM relations r WHERE r.relkind IN ('r', 'p')
    UNION ALL
    SELECT r.word || ' ' || r.name, '', 'persistence', CASE r.relpersistence WHEN 'u' THEN 'unlogged' ELSE 'logged' END
    FROM relations r WHERE r.relkind IN ('r', 'm')
    UNION ALL
    SELECT r.word || ' ' || r.name, '', 'options',
           (SELECT string_agg(o.option, ', ' ORDER BY o.option) FROM unnest(r.reloptions) AS o (option))
    FROM relations r WHERE r.relkind = 'v'
    UNION ALL
    SELECT r.word || ' ' || r.name, '', 'definition', pg_get_viewdef(r.oid) FROM relations r WHERE r.relkind IN ('v', 'm')
    UNION ALL
    SELECT object, part_of, 'type', format_type(atttypid, atttypmod) FROM attributes
    UNION ALL
    SELECT object, part_of, 'nullability', CASE WHEN attnotnull THEN 'NOT NULL' ELSE 'NULL' END FROM attributes
    UNION ALL
    SELECT object, part_of, CASE WHEN attgenerated <> '' THEN 'generated as' ELSE 'default' END,
           coalesce(expression, 'none') FROM attributes
    UNION ALL
    SELECT object, part_of, 'identity', attidentity::text FROM attributes WHERE attidentity <> ''
    UNION ALL
    SELECT a.object, a.part_of, 'collation', c.collname::text FROM attributes a JOIN pg_collation c ON c.oid = a.attcollation
    WHERE c.collname <> 'default'
    UNION ALL
    SELECT 'index ' || i.relname, r.word || ' ' || r.name, 'definition',
           pg_get_indexdef(i.oid) || CASE WHEN x.indisvalid THEN '' ELSE ' (invalid)' END
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN relations r ON r.oid = x.indrelid
    UNION ALL
    SELECT 'constraint ' || c.conname, coalesce(r.word || ' ' || r.name, 'type ' || t.name), 'definition',
           pg_get_constraintdef(c.oid) || CASE WHEN c.convalidated THEN '' ELSE ' (not validated)' END
    FROM pg_constraint c LEFT JOIN relations r ON r.oid = c.conrelid LEFT JOIN types t ON t.oid = c.contypid
    WHERE c.contype <> 'n' AND coalesce(r.oid, t.oid) IS NOT NULL
    UNION ALL
    SELECT 'trigger ' || g.tgname, r.word || ' ' || r.name, 'definition',
           pg_get_triggerdef(g.oid) || CASE g.tgenabled WHEN 'O' THEN '' WHEN 'D' THEN ' (disabled)' ELSE ' (' || g.tgenabled::text || ')' END
    FROM pg_trigger g JOIN relations r ON r.oid = g.tgrelid WHERE NOT g.tgisinternal
    UNION ALL
    -- What keeps a foreign key is a trigger of the system's, on both of its tables; their names are numbers.
    SELECT 'constraint ' || c.conname, r.word || ' ' || r.name, 'triggers',
           string_agg(DISTINCT CASE g.tgenabled WHEN 'D' THEN 'disabled' ELSE g.tgenabled::text END || ' on ' || o.name, ', ')
    FROM pg_trigger g JOIN pg_constraint c ON c.oid = g.tgconstraint JOIN relations r ON r.oid = c.conrelid
    JOIN relations o ON o.oid = g.tgrelid
    WHERE g.tgisinternal AND g.tgenabled <> 'O'
    GROUP BY c.conname, r.word, r.name
    UNION ALL
    -- `TO CURRENT_USER` was the template's owner where a tenant of an earlier release was cloned.
    SELECT 'policy ' || p.polname, r.word || ' ' || r.name, 'roles', string_agg(DISTINCT
               CASE w.name WHEN 'tenantry_template_owner' THEN 'its role' ELSE w.name END, ', ')
    FROM pg_policy p JOIN relations r ON r.oid = p.polrelid JOIN who w ON w.oid = ANY (p.polroles)
    GROUP BY p.polname, r.word, r.name
    UNION ALL
    SELECT 'policy ' || p.polname, r.word || ' ' || r.name, 'definition', concat_ws(' ', p.polcmd::text,
        CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END,
        'USING ' || pg_get_expr(p.polqual, p.polrelid), 'CHECK ' || pg_get_expr(p.polwithcheck, p.polrelid))
    FROM pg_policy p JOIN relations r ON r.oid = p.polrelid
    UNION ALL
    SELECT 'rule ' || u.rulename, r.word || ' ' || r.name, 'definition', pg_get_ruledef(u.oid)
           || CASE u.ev_enabled WHEN 'O' THEN '' WHEN 'D' THEN ' (disabled)' ELSE ' (' || u.ev_enabled::text || ')' END
    FROM pg_rewrite u JOIN relations r ON r.oid = u.ev_class WHERE u.rulename <> '_RETURN'
    UNION ALL
    SELECT 'function ' || p.name, '', 'owner', w.name FROM routines p JOIN who w ON w.oid = p.proowner
    UNION ALL
    SELECT 'function ' || p.name, '', 'definition',
           CASE p.prokind WHEN 'a' THEN 'aggregate' ELSE pg_get_functiondef(p.oid) END
    FROM routines p
    UNION ALL
    SELECT 'sequence ' || r.name, '', 'definition', format('%s START %s INCREMENT %s MINVALUE %s MAXVALUE %s%s',
        format_type(q.seqtypid, NULL), q.seqstart, q.seqincrement, q.seqmin, q.seqmax,
        CASE WHEN q.seqcycle THEN ' CYCLE' ELSE '' END)
    FROM pg_sequence q JOIN relations r ON r.oid = q.seqrelid
    UNION ALL
    SELECT 'type ' || t.name, '', 'owner', w.name FROM types t JOIN who w ON w.oid = t.typowner
    UNION ALL
    SELECT 'type ' || t.name, '', 'labels', string_agg(e.enumlabel::text, ', ' ORDER BY e.enumsortorder)
    FROM types t JOIN pg_enum e ON e.enumtypid = t.oid GROUP BY t.name
    UNION ALL
    SELECT 'type ' || t.name, '', 'base', format_type(t.typbasetype, t.typtypmod)
           || CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END || coalesce(' DEFAULT ' || t.typdefault, '')
    FROM types t WHERE t.typtype = 'd'
    UNION ALL
    SELECT 'event trigger ' || evtname, '', 'definition', evtevent || ' ' || evtfoid::regprocedure::text
           || CASE evtenabled WHEN 'O' THEN '' WHEN 'D' THEN ' (disabled)' ELSE ' (' || evtenabled::text || ')' END
    FROM pg_event_trigger
    UNION ALL
    SELECT x.object, '', 'grants to ' || w.name,
           string_agg(DISTINCT x.privilege_type || CASE WHEN x.is_grantable THEN ' (with grant option)' ELSE '' END, ', ')
    FROM (SELECT r.object, e.* FROM rights r, aclexplode(r.acl) e) x JOIN who w ON w.oid = x.grantee
    GROUP BY x.object, w.name
)
SELECT object::text, part_of::text, aspect::text, coalesce(value, '')::text AS value FROM facts
