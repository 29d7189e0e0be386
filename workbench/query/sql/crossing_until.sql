-- End of the last window in [since, until) in which a bucket carried load on both sides of a
-- bound of the routes as they are now, so that nobody can tell whose load it was; null for none.
-- Buckets are brought together first: there are far fewer of them than rows.
WITH loaded AS (
    SELECT bucket_start, bucket_end, max(window_end) AS last_end
    FROM load_window
    WHERE window_start >= $since AND window_start < $until
        AND (
            reads IS DISTINCT FROM 0 OR writes IS DISTINCT FROM 0
            OR read_bytes IS DISTINCT FROM 0 OR write_bytes IS DISTINCT FROM 0
        )
    GROUP BY bucket_start, bucket_end
)
SELECT max(last_end) AS crossing_until
FROM loaded
ASOF JOIN route ON loaded.bucket_start < route.route_start
WHERE bucket_end IS NULL OR route_start < bucket_end
