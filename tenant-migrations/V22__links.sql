-- What is said of people comes first: the table of links, which every sign-in through a provider reads, is locked for the rest.

-- Who has shown already that their address is theirs. The audit keeps it where the person's row does not: in a copy, and with
-- another address that an administrator gives them.
INSERT INTO audit (id, at, actor, action, user_id)
SELECT gen_random_uuid(), u.email_verified_at, 'user:' || u.id, 'email.verified', u.id FROM users u
WHERE u.email_verified_at IS NOT NULL
    AND NOT EXISTS (SELECT FROM audit a WHERE a.user_id = u.id AND a.action = 'email.verified');

-- The first person was set up with the organisation, which has a line from here on. Of those from before it is the oldest one, if
-- they are as old as the database, or an administrator to whom nobody has given that: a database may have waited for its
-- organisation.
INSERT INTO audit (id, at, actor, action, user_id)
SELECT gen_random_uuid(), u.created_at, 'system', 'user.created', u.id
FROM (SELECT id, created_at FROM users ORDER BY created_at, id LIMIT 1) u
WHERE NOT EXISTS (SELECT FROM audit a WHERE a.user_id = u.id
        AND a.action IN ('user.created', 'user.imported', 'scim.user_created', 'federation.account_created'))
    AND (u.created_at <= (SELECT min(r.created_at) FROM roles r) + interval '10 minutes'
        OR EXISTS (SELECT FROM user_roles ur JOIN roles r ON r.id = ur.role_id WHERE ur.user_id = u.id AND r.name = 'admin')
            AND NOT EXISTS (SELECT FROM audit a WHERE a.user_id = u.id AND a.action IN ('role.given', 'scim.role_given')));

-- Whose word a link is: the person's own, who was signed in, or that of the provider, which is held to its ceiling at each
-- sign-in.
ALTER TABLE social_accounts ADD COLUMN by_person boolean NOT NULL DEFAULT false;
-- Of the links from before the audit says it, which is read once. What it does not say, or what was said of a provider that was
-- changed since, is the provider's.
WITH said AS MATERIALIZED (
    SELECT user_id, at, actor, action, reason FROM audit WHERE action IN ('federation.linked', 'identity_provider.changed')
), changed AS MATERIALIZED (
    SELECT at, reason FROM said WHERE action = 'identity_provider.changed'
)
UPDATE social_accounts s SET by_person = true
WHERE EXISTS (
        SELECT FROM said a WHERE a.action = 'federation.linked' AND a.user_id = s.user_id
            AND a.actor = 'user:' || s.user_id AND a.reason LIKE '%(' || s.id || ')')
    AND NOT EXISTS (
        SELECT FROM changed c WHERE c.at >= s.created_at AND c.reason LIKE '%(' || s.provider_id || ',%');
