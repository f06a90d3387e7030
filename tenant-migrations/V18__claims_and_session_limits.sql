-- What an organisation has its access tokens say besides the usual, and how many sessions a person may have.
ALTER TABLE security_policy
    -- [{name, source, …}], in the order in which they were given.
    ADD COLUMN token_claims           jsonb   NOT NULL DEFAULT '[]'
        CHECK (jsonb_typeof(token_claims) = 'array' AND jsonb_array_length(token_claims) <= 20),
    -- None: as many as they like.
    ADD COLUMN session_max_per_person integer CHECK (session_max_per_person BETWEEN 1 AND 100);

-- Whether somebody else than the invited person was shown the token: one that came by mail alone shows, when it is used, that
-- its person reads what is sent to their address.
ALTER TABLE invitations ADD COLUMN shown boolean NOT NULL DEFAULT true;
