-- Measuring a server looks at every file of every database there: it is done less often than the rest of a look.
ALTER TABLE cluster_facts ADD COLUMN bytes_at timestamptz;
UPDATE cluster_facts SET bytes_at = probed_at;
ALTER TABLE cluster_facts ALTER COLUMN bytes_at SET NOT NULL;
