-- The tenant's database. It takes no connections before the next step has shut out everyone but its owner.
-- Variables: database, template, role. Runs outside a transaction.
CREATE DATABASE :"database" TEMPLATE :"template" OWNER :"role" ALLOW_CONNECTIONS false;
