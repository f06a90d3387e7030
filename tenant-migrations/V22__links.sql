-- Whose word a link is: the person's own, who was signed in, or that of the provider, which is held to its ceiling at each
-- sign-in.
ALTER TABLE social_accounts ADD COLUMN by_person boolean NOT NULL DEFAULT false;
-- Of the links from before the audit says it. What it does not say, or what was said of a provider that was changed since, is
-- the provider's.
UPDATE social_accounts s SET by_person = true
WHERE EXISTS (
        SELECT FROM audit a WHERE a.user_id = s.user_id AND a.action = 'federation.linked'
            AND a.actor = 'user:' || s.user_id AND a.reason LIKE '%(' || s.id || ')')
    AND NOT EXISTS (
        SELECT FROM audit c WHERE c.action = 'identity_provider.changed' AND c.at >= s.created_at
            AND c.reason LIKE '%(' || s.provider_id || ',%');

-- Who has shown already that their address is theirs. The audit keeps it where the person's row does not: in a copy, and with
-- another address that an administrator gives them.
INSERT INTO audit (id, at, actor, action, user_id)
SELECT gen_random_uuid(), u.email_verified_at, 'user:' || u.id, 'email.verified', u.id FROM users u
WHERE u.email_verified_at IS NOT NULL
    AND NOT EXISTS (SELECT FROM audit a WHERE a.user_id = u.id AND a.action = 'email.verified');
