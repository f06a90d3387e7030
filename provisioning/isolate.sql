-- Nobody but the owner connects. From the administrative database; safe to repeat.
-- Variables: database.
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
ALTER DATABASE :"database" WITH IS_TEMPLATE false ALLOW_CONNECTIONS true;
