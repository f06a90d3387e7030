-- Marks of what people may do: who has remembered somebody's rights with both marks asks for the marks alone, and knows
-- from them whether the rights are still those.
--
-- Whatever changes rights changes a mark in the same transaction. A mark is random, so that none ever comes again, not
-- even in a database that was restored. They are apart from `version`, `updated_at` and `auth_version`, which stay as the
-- application sets them; a server that does not know the marks moves them too.

-- Of this person's roles. The same for all who are here already: the other mark tells one database from another.
ALTER TABLE users ADD COLUMN rights_mark uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
ALTER TABLE users ALTER COLUMN rights_mark SET DEFAULT gen_random_uuid();

-- Of what each role is called and allows: one row, and nobody makes another one. That is not left to a key, because an
-- index is one thing more to be looked up by every new connection.
CREATE TABLE roles_mark (mark uuid NOT NULL);
INSERT INTO roles_mark (mark) VALUES (gen_random_uuid());
REVOKE INSERT, DELETE, TRUNCATE ON roles_mark FROM CURRENT_USER;

-- As the owner, so that it works for whomever the owner lets change roles.
CREATE FUNCTION mark_rights_of_people() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    UPDATE public.users SET rights_mark = gen_random_uuid() WHERE id IN (SELECT user_id FROM changed);
    RETURN NULL;
END
$$;

CREATE FUNCTION mark_rights_of_roles() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    UPDATE public.roles_mark SET mark = gen_random_uuid();
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION mark_rights_of_people(), mark_rights_of_roles() FROM PUBLIC;

-- A trigger with transition tables has one event. Of an update both the old and the new rows count.
CREATE TRIGGER mark_given AFTER INSERT ON user_roles
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_people();
CREATE TRIGGER mark_taken AFTER DELETE ON user_roles
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_people();
CREATE TRIGGER mark_changed_from AFTER UPDATE ON user_roles
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_people();
CREATE TRIGGER mark_changed_to AFTER UPDATE ON user_roles
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_people();
-- It says not whose: everybody's.
CREATE TRIGGER mark_emptied AFTER TRUNCATE ON user_roles
    FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_roles();

CREATE TRIGGER mark_roles AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON role_permissions
    FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_roles();
CREATE TRIGGER mark_roles AFTER UPDATE OF id, name OR DELETE OR TRUNCATE ON roles
    FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_roles();
CREATE TRIGGER mark_roles AFTER UPDATE OF id, name OR DELETE OR TRUNCATE ON permissions
    FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_roles();
