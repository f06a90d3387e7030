-- Which request began an operation, as its answer and the log have it. None: the command line or a worker did, and for
-- those from before.
ALTER TABLE operations ADD COLUMN request_id text CHECK (length(request_id) BETWEEN 1 AND 64);
