-- Teams: people together, with roles that all of them have. A team may stand in another one, whose roles it has too.

CREATE TABLE teams (
    id          uuid        PRIMARY KEY,
    name        text        NOT NULL,
    -- As it is compared: no two alike.
    name_key    text        NOT NULL CONSTRAINT teams_name_key UNIQUE,
    description text        NOT NULL DEFAULT '',
    parent_id   uuid        REFERENCES teams (id),
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    version     bigint      NOT NULL DEFAULT 1
);
CREATE INDEX teams_parent_id_idx ON teams (parent_id);

CREATE TABLE team_members (
    team_id  uuid        NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    user_id  uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    added_at timestamptz NOT NULL,
    PRIMARY KEY (team_id, user_id)
);
CREATE INDEX team_members_user_id_idx ON team_members (user_id);

CREATE TABLE team_roles (
    team_id uuid NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    role_id uuid NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    PRIMARY KEY (team_id, role_id)
);
CREATE INDEX team_roles_role_id_idx ON team_roles (role_id);

-- A team and those it stands in. `UNION` ends even where somebody has made a ring by hand.
CREATE FUNCTION teams_above(team uuid) RETURNS SETOF uuid
    LANGUAGE sql STABLE SET search_path = ''
AS $$
    WITH RECURSIVE up (id) AS (
        SELECT team
        UNION
        SELECT t.parent_id FROM public.teams t JOIN up ON t.id = up.id WHERE t.parent_id IS NOT NULL
    )
    SELECT id FROM up
$$;

-- Every role of a person: their own, and those of their teams.
CREATE FUNCTION roles_of(person uuid) RETURNS SETOF uuid
    LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT ur.role_id FROM public.user_roles ur WHERE ur.user_id = person
    UNION
    SELECT tr.role_id FROM public.team_roles tr WHERE tr.team_id IN
        (SELECT above FROM public.team_members m, public.teams_above(m.team_id) above WHERE m.user_id = person)
$$;

-- What changes rights changes a mark in the same transaction (see V3__rights_marks.sql).
CREATE TRIGGER mark_joined AFTER INSERT ON team_members
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_people();
CREATE TRIGGER mark_left AFTER DELETE ON team_members
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_people();
CREATE TRIGGER mark_changed_from AFTER UPDATE ON team_members
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_people();
CREATE TRIGGER mark_changed_to AFTER UPDATE ON team_members
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_people();
CREATE TRIGGER mark_emptied AFTER TRUNCATE ON team_members
    FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_roles();
CREATE TRIGGER mark_roles AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON team_roles
    FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_roles();
CREATE TRIGGER mark_roles AFTER UPDATE OF id, parent_id OR DELETE OR TRUNCATE ON teams
    FOR EACH STATEMENT EXECUTE FUNCTION mark_rights_of_roles();

-- A new tenant is seeded with them; those that are here already have their roles.
INSERT INTO permissions (id, name, description) VALUES
    (gen_random_uuid(), 'teams:read', 'See the teams and who is in them'),
    (gen_random_uuid(), 'teams:write', 'Make, change and remove teams, and decide who is in them')
ON CONFLICT (name) DO NOTHING;
INSERT INTO role_permissions (role_id, permission_id)
SELECT r.id, p.id FROM roles r, permissions p
WHERE r.system AND r.name = 'admin' AND p.name IN ('teams:read', 'teams:write')
ON CONFLICT DO NOTHING;
