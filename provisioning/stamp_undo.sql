-- Gives a dedicated database back to its owner: the stamp and the histories go, the tenant's data stays.
-- Run by the owner of the schema.
DROP SCHEMA IF EXISTS tenantry CASCADE;
