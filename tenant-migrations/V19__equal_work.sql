-- A foreign key is looked up, and its row locked, only where there is a row: the time of an answer would tell whether somebody
-- has an address. What a person leaves behind goes with them all the same.

ALTER TABLE login_attempts DROP CONSTRAINT IF EXISTS login_attempts_user_id_fkey;
ALTER TABLE mail_outbox DROP CONSTRAINT IF EXISTS mail_outbox_user_id_fkey;

CREATE FUNCTION forget_people() RETURNS trigger
    LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    DELETE FROM public.login_attempts a USING gone g WHERE a.user_id = g.id;
    UPDATE public.mail_outbox m SET user_id = NULL FROM gone g WHERE m.user_id = g.id;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION forget_people() FROM PUBLIC;

CREATE TRIGGER forget_people AFTER DELETE ON users
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION forget_people();
