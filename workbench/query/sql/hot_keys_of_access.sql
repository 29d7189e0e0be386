-- The most accessed keys of every route of the relation `route` in [since, until): at most
-- $keys_max a route, counted whole.
SELECT
    route_id,
    key,
    count,
    CAST(0 AS BIGINT) AS error,
    CAST(1 AS DOUBLE) AS sample_rate
FROM (
    SELECT key, count(*) AS count
    FROM access
    WHERE time >= $since AND time < $until
    GROUP BY key
) AS told
ASOF JOIN (SELECT route_id, route_start, route_end FROM route) AS owner
    ON told.key >= owner.route_start
WHERE route_end IS NULL OR key < route_end
QUALIFY row_number() OVER (PARTITION BY route_id ORDER BY count DESC, key) <= $keys_max
ORDER BY route_id, count DESC, key
