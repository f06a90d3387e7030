-- A copy in which everything is that an administrator makes becomes the tenant's. From the administrative database.
-- Variables: database, role.
ALTER DATABASE :"database" OWNER TO :"role";
