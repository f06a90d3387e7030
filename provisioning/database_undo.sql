-- Drops a tenant's database and whoever is connected to it. Safe to repeat; outside a transaction.
-- Variables: database.
DROP DATABASE IF EXISTS :"database" WITH (FORCE);
