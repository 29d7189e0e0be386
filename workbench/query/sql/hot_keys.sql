-- The heaviest keys of every route of the relation `route`, as they were told for the windows that
-- start in [since, until): at most $keys_max a route. A key counts for the route that holds it.
-- error: by how much the count may be too high. sample_rate: that of the coarsest window.
SELECT
    route_id,
    key,
    CAST(sum(count) AS BIGINT) AS count,
    CAST(sum(error) AS BIGINT) AS error,
    min(sample_rate) AS sample_rate
FROM (
    SELECT key, count, error, sample_rate
    FROM hot_key
    WHERE window_start >= $since AND window_start < $until
) AS told
ASOF JOIN (SELECT route_id, route_start, route_end FROM route) AS owner
    ON told.key >= owner.route_start
WHERE route_end IS NULL OR key < route_end
GROUP BY route_id, key
QUALIFY row_number() OVER (PARTITION BY route_id ORDER BY sum(count) DESC, key) <= $keys_max
ORDER BY route_id, count DESC, key
