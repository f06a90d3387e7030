-- Who drives an operation: a token of whoever opened its journal last. A driver whose lock was lost without his noticing
-- finds another's here, and stops.
ALTER TABLE operations ADD COLUMN driver uuid;
