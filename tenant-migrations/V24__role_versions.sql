-- Earlier migrations gave `admin` permissions under the version that it had: whoever has read it before is told that it has
-- changed. What gives a role of the product permissions moves its version from here on.
UPDATE roles SET version = version + 1, updated_at = now() WHERE system AND name = 'admin';
