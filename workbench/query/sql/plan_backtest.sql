-- A plan's back-test: heaviest share of the first half on the routes that its own plan left, of the
-- second half on those and on the routes as they are, and how much came on other routes.
-- Reads `half` (is_later, atom_start, load), the atoms of each half, and `route` (route_start,
-- route_end, is_after).
WITH placed AS (
    SELECT is_after, route_start, is_later, load
    FROM half
    ASOF JOIN (SELECT * FROM route WHERE is_after) AS route ON atom_start >= route_start
    WHERE route_end IS NULL OR atom_start < route_end
    UNION ALL
    SELECT is_after, route_start, is_later, load
    FROM half
    ASOF JOIN (SELECT * FROM route WHERE NOT is_after) AS route ON atom_start >= route_start
    WHERE route_end IS NULL OR atom_start < route_end
),
summed AS (
    SELECT
        is_after,
        route_start,
        CAST(coalesce(sum(load) FILTER (NOT is_later), 0) AS DOUBLE) AS forecast,
        CAST(coalesce(sum(load) FILTER (is_later), 0) AS DOUBLE) AS came
    FROM placed
    GROUP BY is_after, route_start
),
total AS (
    SELECT sum(forecast) AS forecast, sum(came) AS came FROM summed WHERE is_after
)
SELECT
    max(summed.came) FILTER (NOT is_after) / any_value(total.came) AS max_share_without,
    max(summed.forecast) FILTER (is_after) / any_value(total.forecast) AS max_share_forecast,
    max(summed.came) FILTER (is_after) / any_value(total.came) AS max_share_came,
    sum(abs(summed.forecast / total.forecast - summed.came / total.came)) FILTER (is_after) / 2
        AS drift
FROM summed, total
