-- What somebody could do when their session was opened or last refreshed, and under which marks (V3__rights_marks.sql). While
-- these are still the marks, so are the rights: a node that has never seen the person, on a connection just opened, need not
-- look up the tables that rights come from. A migration that has rights read in another way moves `roles_mark`.
ALTER TABLE sessions
    -- The person's and that of all roles; none: nothing is known.
    ADD COLUMN known_marks       uuid[],
    ADD COLUMN known_roles       text[],
    ADD COLUMN known_permissions text[];
