-- Whose word a link is: the person's own, who was signed in, or that of the provider, which is held to its ceiling at each
-- sign-in. Nobody can say it of the links from before: they are the providers'.
ALTER TABLE social_accounts ADD COLUMN by_person boolean NOT NULL DEFAULT false;

-- Who has shown already that their address is theirs. The audit keeps it where the person's row does not: in a copy, and with
-- another address that an administrator gives them.
INSERT INTO audit (id, at, actor, action, user_id)
SELECT gen_random_uuid(), u.email_verified_at, 'user:' || u.id, 'email.verified', u.id FROM users u
WHERE u.email_verified_at IS NOT NULL
    AND NOT EXISTS (SELECT FROM audit a WHERE a.user_id = u.id AND a.action = 'email.verified');
