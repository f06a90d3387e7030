-- An empty database, for a copy of what another one held. It takes no connections before the next step has shut out
-- everyone but its owner, who is the administrator until it is handed over.
-- Variables: database. Runs outside a transaction.
CREATE DATABASE :"database" TEMPLATE template0 ENCODING 'UTF8' ALLOW_CONNECTIONS false;
