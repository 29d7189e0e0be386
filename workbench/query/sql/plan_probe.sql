-- How many cuts bring every route to a limit: each route goes as far as the limit lets it.
-- Null where none do, because one block or one route that must not be cut is heavier; where a probe
-- is `lone` such a route may be.
-- Reads `edge` (weights, place, upto), `segment` (grid, low, high, is_fixed) and `probe` (probe, grid,
-- weights, lone, most).
WITH RECURSIVE start AS (
    SELECT
        probe,
        probe.weights AS weights,
        lone,
        most,
        low,
        high,
        first.upto AS upto,
        is_fixed OR high - low = 1 AS is_whole
    FROM probe
    JOIN segment USING (grid)
    JOIN edge AS first ON first.weights = probe.weights AND first.place = low
    JOIN edge AS last ON last.weights = probe.weights AND last.place = high
    WHERE last.upto - first.upto > most
),
step AS (
    SELECT probe, weights, lone, most, low, high, low AS place, upto
    FROM start
    WHERE NOT is_whole
    UNION ALL
    SELECT
        step.probe,
        step.weights,
        step.lone,
        step.most,
        step.low,
        step.high,
        coalesce(
            max(edge.place) FILTER (edge.upto - step.upto <= step.most),
            CASE WHEN step.lone THEN step.place + 1 END
        ),
        coalesce(max(edge.upto) FILTER (edge.upto - step.upto <= step.most), min(edge.upto))
    FROM step
    JOIN edge ON edge.weights = step.weights AND edge.place > step.place AND edge.place <= step.high
    WHERE step.place < step.high
    GROUP BY
        step.probe, step.weights, step.lone, step.most, step.low, step.high, step.place, step.upto
)
SELECT
    probe.probe,
    CASE
        WHEN NOT lone AND probe.probe IN (SELECT probe FROM start WHERE is_whole) THEN NULL
        WHEN probe.probe IN (SELECT probe FROM step WHERE place IS NULL) THEN NULL
        ELSE (
            SELECT count(*) FROM step WHERE step.probe = probe.probe AND place > low AND place < high
        )
    END AS cuts
FROM probe
ORDER BY probe.probe
