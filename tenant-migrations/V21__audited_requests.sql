-- Which request a line of the audit was written for, as its answer and the log have it. None: by work that nobody waits for,
-- on the command line, and in lines from before, which nobody has to look through for that.
ALTER TABLE audit ADD COLUMN request_id text,
    ADD CONSTRAINT audit_request_id_check CHECK (length(request_id) BETWEEN 1 AND 64) NOT VALID;
