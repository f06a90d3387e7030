-- A move has one step more, `weigh`, in front of `hold`. The steps of a move that was begun before keep their order: those
-- from `hold` on move up by one, so that whoever goes on with it finds each in its place. Over a thousand, because a place
-- is taken once at any moment.

UPDATE operation_steps SET position = position + 1000
    WHERE position >= 4 AND operation_id IN (
        SELECT o.id FROM operations o JOIN operation_steps hold ON hold.operation_id = o.id
        WHERE o.kind = 'move' AND o.state NOT IN ('done', 'undone') AND hold.position = 4 AND hold.name = 'hold');
UPDATE operation_steps SET position = position - 999 WHERE position >= 1004;
