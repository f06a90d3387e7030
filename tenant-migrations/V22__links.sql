-- Whose word a link is: the person's own, who was signed in, or that of the provider, which is held to its ceiling at each
-- sign-in. Nobody can say it of the links from before: they are the providers'.
ALTER TABLE social_accounts ADD COLUMN by_person boolean NOT NULL DEFAULT false;
