-- How an app wants the person to be asked, which is held against their sign-in when they answer (OpenID Connect Core, 3.1.2.1).
ALTER TABLE oauth_requests
    -- Seconds that may have passed since they proved who they are. None: any number.
    ADD COLUMN max_age integer,
    -- Words of the standard with blanks between them.
    ADD COLUMN prompt  text;
