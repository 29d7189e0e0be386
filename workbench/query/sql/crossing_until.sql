-- End of the last window in [since, until) in which a bucket carried load on both sides of a
-- bound of the routes as they are now, so that nobody can tell whose load it was; null for none.
-- A bucket inside the route that it was measured on crosses nothing: only of the others, which are
-- few, is it asked which bounds lie inside.
WITH other AS (
    SELECT bucket_start, bucket_end, max(window_end) AS last_end
    FROM load_window
    LEFT JOIN (
        SELECT route_id AS own_id, route_start AS own_start, route_end AS own_end FROM route
    ) ON load_window.route_id = own_id
    WHERE window_start >= $since AND window_start < $until
        AND NOT coalesce(
            bucket_start >= own_start
            AND (own_end IS NULL OR coalesce(bucket_end <= own_end, false)),
            false
        )
        AND (
            reads IS DISTINCT FROM 0 OR writes IS DISTINCT FROM 0
            OR read_bytes IS DISTINCT FROM 0 OR write_bytes IS DISTINCT FROM 0
        )
    GROUP BY bucket_start, bucket_end
)
SELECT max(last_end) AS crossing_until
FROM other
ASOF JOIN (SELECT route_start FROM route) AS bound ON other.bucket_start < bound.route_start
WHERE bucket_end IS NULL OR bound.route_start < bucket_end
