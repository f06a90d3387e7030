-- In a template that was just created: whoever runs its migrations may make things, for as long as they run.
-- The schema stays with the administrator, so that no tenant's role can drop the stamp inside it.
-- Variables: template.
REVOKE ALL ON DATABASE :"template" FROM PUBLIC;
CREATE SCHEMA IF NOT EXISTS tenantry;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE ON DATABASE :"template" TO tenantry_template_owner;
GRANT USAGE, CREATE ON SCHEMA public, tenantry TO tenantry_template_owner;
