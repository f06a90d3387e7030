-- How an app wants the person to be asked, which is held against their sign-in when they answer (OpenID Connect Core, 3.1.2.1).
ALTER TABLE oauth_requests
    -- Seconds that may have passed since they proved who they are. None: any number.
    ADD COLUMN max_age integer,
    -- Words of the standard with blanks between them.
    ADD COLUMN prompt  text;

-- From where a stranger began to sign in: the address, or the /64 of an IPv6 address, as of what apps ask; and its site, which is
-- the /48 of an IPv6 address, and else the same. None: one that began before, and whoever is known.
ALTER TABLE passkey_ceremonies ADD COLUMN network text, ADD COLUMN site text;
CREATE INDEX passkey_ceremonies_network_idx ON passkey_ceremonies (network);
CREATE INDEX passkey_ceremonies_site_idx ON passkey_ceremonies (site);
-- By which those that have ended are swept out. Of sign-ins under way, federation_states_created_at_idx does it.
CREATE INDEX passkey_ceremonies_expires_at_idx ON passkey_ceremonies (expires_at);
ALTER TABLE federation_states ADD COLUMN network text, ADD COLUMN site text;
CREATE INDEX federation_states_network_idx ON federation_states (network);
CREATE INDEX federation_states_site_idx ON federation_states (site);
