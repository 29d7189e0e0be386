-- What a plan says of the heaviest route: before, after, at each action, and what bounds it.
-- Reads `route_load` (load, is_before, is_after, born, died: the actions between which a route is
-- there) and `block` (load), the answers of plan_spans.sql and plan_blocks.sql.
WITH mark AS (
    SELECT
        max(load) FILTER (is_before) AS before,
        max(load) FILTER (is_after) AS after,
        sum(load) FILTER (is_before) AS total,
        count(*) FILTER (is_after) AS routes,
        count(*) FILTER (is_after) - count(*) FILTER (is_before) AS splits
    FROM route_load
),
part AS (
    SELECT DISTINCT CAST(ceil(CAST(load AS HUGEINT) / n) AS BIGINT) AS least
    FROM (
        SELECT load FROM route_load, mark
        WHERE is_before
        ORDER BY load DESC
        LIMIT (SELECT splits + 1 FROM mark)
    ), range(1, (SELECT splits + 2 FROM mark)) AS parts (n)
    WHERE load > 0
),
finest AS (
    SELECT min(least) AS least
    FROM (
        SELECT part.least
        FROM part JOIN route_load ON is_before AND load > part.least
        GROUP BY part.least
        HAVING sum((load - 1) // part.least) <= (SELECT splits FROM mark)
        UNION ALL
        SELECT before FROM mark
    )
)
SELECT figure, share, CAST(whole AS BIGINT) AS whole
FROM (
    SELECT 'bottleneck.before' AS figure, CAST(NULL AS DOUBLE) AS share, before AS whole FROM mark
    UNION ALL SELECT 'bottleneck.after', NULL, after FROM mark
    UNION ALL SELECT 'bottleneck.resolution.high', NULL, after FROM mark
    UNION ALL
    SELECT 'bottleneck.resolution.low', NULL, CASE WHEN $is_key THEN after ELSE least(after, least) END
    FROM mark, finest
    UNION ALL
    SELECT
        'bottleneck.lower_bound',
        NULL,
        greatest((total + routes - 1) // routes, (SELECT max(load) FROM block))
    FROM mark
    UNION ALL SELECT 'forecast.max_share_before', before / CAST(total AS DOUBLE), NULL FROM mark
    UNION ALL SELECT 'forecast.max_share_after', after / CAST(total AS DOUBLE), NULL FROM mark
    UNION ALL SELECT 'total_load', NULL, CAST((SELECT sum(load) FROM block) AS BIGINT)
    UNION ALL SELECT 'atoms', NULL, CAST((SELECT sum(atoms) FROM block) AS BIGINT)
    UNION ALL SELECT 'blocks', NULL, (SELECT count(*) FROM block)
    UNION ALL
    SELECT 'step ' || step, NULL, max(load)
    FROM range(0, CAST($steps AS BIGINT)) AS steps (step)
    JOIN route_load ON born <= step AND step < died
    GROUP BY step
)
