-- Measuring a server looks at every file of every database there: it is done less often than the rest of a look.
-- Nodes of the earlier release measure at each look, and say nothing of it.
ALTER TABLE cluster_facts ADD COLUMN bytes_at timestamptz NOT NULL DEFAULT now();
UPDATE cluster_facts SET bytes_at = probed_at;
