-- How an app wants the person to be asked, which is held against their sign-in when they answer (OpenID Connect Core, 3.1.2.1).
ALTER TABLE oauth_requests
    -- Seconds that may have passed since they proved who they are. None: any number.
    ADD COLUMN max_age integer,
    -- Words of the standard with blanks between them.
    ADD COLUMN prompt  text;

-- From where a stranger began to sign in: the address, or the /64 of an IPv6 address, as of what apps ask. None: one that began
-- before, and whoever is known.
ALTER TABLE passkey_ceremonies ADD COLUMN network text;
CREATE INDEX passkey_ceremonies_network_idx ON passkey_ceremonies (network);
ALTER TABLE federation_states ADD COLUMN network text;
CREATE INDEX federation_states_network_idx ON federation_states (network);
