-- When the template is at the head of all migrations: nobody connects any more, everybody who may can clone it.
-- From the administrative database. Variables: template.
REVOKE ALL ON DATABASE :"template" FROM PUBLIC, pg_database_owner;
ALTER DATABASE :"template" WITH IS_TEMPLATE true ALLOW_CONNECTIONS false;
