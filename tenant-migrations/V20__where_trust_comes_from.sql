-- At which organisation the person of a linked account proved who they are when it was linked: from there alone they
-- change over to it. None: from nowhere, as for the account that others were linked with, and for links from before.
ALTER TABLE users ADD COLUMN person_from uuid;
