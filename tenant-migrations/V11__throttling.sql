-- Guessing is slowed by address and by organisation as well as by account; sessions live as long as the organisation says.

ALTER TABLE login_attempts
    -- What was tried: `password`, `second_factor`, `step_up` …
    ADD COLUMN kind    text NOT NULL DEFAULT 'password' CHECK (kind ~ '^[a-z_]{1,32}$'),
    -- From where: the address, or the /64 of an IPv6 address.
    ADD COLUMN network text,
    -- Whose failures it counts with, where the account's person was known by their address or device: that one's alone.
    ADD COLUMN lane    text;
CREATE INDEX login_attempts_failed_network_idx ON login_attempts (network, at) WHERE outcome = 'failed';
CREATE INDEX login_attempts_failed_at_idx ON login_attempts (at) WHERE outcome = 'failed';

-- Addresses, or the organisation as a whole, from or in which many accounts were tried.
CREATE TABLE login_suspicions (
    -- `network:…`, or `tenant`.
    subject    text        PRIMARY KEY CHECK (length(subject) BETWEEN 1 AND 100),
    began_at   timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    accounts   bigint      NOT NULL
);

ALTER TABLE security_policy
    -- A session that is not refreshed for so long ends.
    ADD COLUMN session_idle_minutes   integer CHECK (session_idle_minutes BETWEEN 5 AND 129600),
    -- And however often it is refreshed, after so long.
    ADD COLUMN session_absolute_hours integer CHECK (session_absolute_hours BETWEEN 1 AND 2160),
    ADD COLUMN captcha_provider       text    CHECK (captcha_provider IN ('turnstile', 'hcaptcha')),
    ADD COLUMN captcha_site_key       text    CHECK (length(captcha_site_key) BETWEEN 1 AND 200),
    ADD COLUMN captcha_secret_sealed  bytea,
    ADD CONSTRAINT security_policy_captcha_is_whole
        CHECK (num_nonnulls(captcha_provider, captcha_site_key, captcha_secret_sealed) IN (0, 3));
