-- Whose verified address the installation's blind index has yet to hear of. Written by the database itself in the
-- transaction that verifies, changes, closes, reopens or removes an account, whoever does it; read and emptied in the
-- background. What counts is how the account stands when the row is read.

CREATE TABLE address_news (
    -- The nil id: everybody's.
    user_id uuid PRIMARY KEY,
    -- Another one with every change, so that what changes while it is read stays.
    mark    uuid NOT NULL DEFAULT gen_random_uuid()
);

-- As the owner, so that it works for whomever the owner lets change people.
CREATE FUNCTION note_address() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    INSERT INTO public.address_news (user_id) VALUES (coalesce(NEW.id, OLD.id))
    ON CONFLICT (user_id) DO UPDATE SET mark = gen_random_uuid();
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION note_address() FROM PUBLIC;

CREATE TRIGGER note_new_address AFTER INSERT ON users FOR EACH ROW
    WHEN (NEW.status = 'active' AND NEW.email_verified_at IS NOT NULL)
    EXECUTE FUNCTION note_address();
CREATE TRIGGER note_former_address AFTER DELETE ON users FOR EACH ROW
    WHEN (OLD.status = 'active' AND OLD.email_verified_at IS NOT NULL)
    EXECUTE FUNCTION note_address();
CREATE TRIGGER note_changed_address AFTER UPDATE OF email_key, email_verified_at, status ON users FOR EACH ROW
    WHEN ((OLD.status = 'active' AND OLD.email_verified_at IS NOT NULL)
            <> (NEW.status = 'active' AND NEW.email_verified_at IS NOT NULL)
        OR (NEW.status = 'active' AND NEW.email_verified_at IS NOT NULL AND OLD.email_key <> NEW.email_key))
    EXECUTE FUNCTION note_address();

INSERT INTO address_news (user_id)
SELECT '00000000-0000-0000-0000-000000000000'
WHERE EXISTS (SELECT FROM users WHERE status = 'active' AND email_verified_at IS NOT NULL);
