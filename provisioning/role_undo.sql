-- Drops a tenant's role, after its database. Safe to repeat.
-- Variables: role.
DROP ROLE IF EXISTS :"role";
