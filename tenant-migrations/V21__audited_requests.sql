-- Which request a line of the audit was written for, as its answer and the log have it. None: by work that nobody waits for,
-- on the command line, and in lines from before.
ALTER TABLE audit ADD COLUMN request_id text CHECK (length(request_id) BETWEEN 1 AND 64);
