-- In the tenant's database: its role takes over what the template held. Safe to repeat.
-- Variables: role.
REASSIGN OWNED BY tenantry_template_owner TO :"role";
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON SCHEMA public, tenantry FROM tenantry_template_owner;
GRANT ALL ON SCHEMA public TO :"role";
GRANT USAGE, CREATE ON SCHEMA tenantry TO :"role";
