-- A tenant that is held: requests wait, on every node, until the hold is lifted or has run out. Whoever holds it works
-- on its database meanwhile.
CREATE TABLE tenant_holds (
    tenant_id    uuid PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    operation_id uuid NOT NULL,
    held_since   timestamptz NOT NULL DEFAULT clock_timestamp(),
    held_until   timestamptz NOT NULL
);
CREATE INDEX tenant_holds_held_until ON tenant_holds (held_until);

-- A hold is part of the tenant's registry entry: touching the tenant gives it its new generation.
CREATE FUNCTION tenant_holds_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tenants SET generation = generation WHERE id = coalesce(NEW.tenant_id, OLD.tenant_id);
    RETURN NULL;
END $$;
CREATE TRIGGER tenant_holds_changed AFTER INSERT OR UPDATE OR DELETE ON tenant_holds
    FOR EACH ROW EXECUTE FUNCTION tenant_holds_changed();

-- Passwords around a rotation: the next one is written down before the server hears of it, so that a crash between the
-- server and the registry loses nothing; the former one until it was seen to be refused. The id is the tenant's.
CREATE TABLE rotating_passwords (
    id            uuid PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    next_sealed   bytea,
    former_sealed bytea
);

-- Databases of tenants that serve nobody: what a move has left behind, fenced by the role that cannot log in. Dropped
-- when the move is confirmed or its grace period ends. Outlives the tenant, hence no foreign key to it.
CREATE TABLE tenant_copies (
    id            uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL,
    cluster_id    uuid NOT NULL REFERENCES clusters (id),
    database_name text NOT NULL CHECK (database_name <> ''),
    role_name     text NOT NULL CHECK (role_name <> ''),
    left_at       timestamptz NOT NULL DEFAULT now(),
    purge_after   timestamptz NOT NULL,
    UNIQUE (cluster_id, database_name)
);
CREATE INDEX tenant_copies_tenant_id ON tenant_copies (tenant_id);
CREATE INDEX tenant_copies_purge_after ON tenant_copies (purge_after);

-- A rotation or a drain of many is one operation, whose parts name it.
CREATE INDEX operations_part_of ON operations ((input ->> 'partOf')) WHERE input ? 'partOf';
