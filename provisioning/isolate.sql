-- Nobody but the owner connects. From the administrative database; safe to repeat.
-- Migrations run as `pg_database_owner`, who may make schemas and temporary tables as the owner may.
-- Variables: database.
REVOKE ALL ON DATABASE :"database" FROM PUBLIC, pg_database_owner;
GRANT CREATE, TEMPORARY ON DATABASE :"database" TO pg_database_owner;
ALTER DATABASE :"database" WITH IS_TEMPLATE false ALLOW_CONNECTIONS true;
