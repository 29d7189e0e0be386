-- End of the last window in [since, until) in which a bucket carried load on both sides of a
-- bound of the routes as they are now, so that nobody can tell whose load it was; null for none.
SELECT max(window_end) AS crossing_until
FROM load_window
ASOF JOIN route ON load_window.bucket_start < route.route_start
WHERE window_start >= $since AND window_start < $until
    AND (bucket_end IS NULL OR route_start < bucket_end)
    AND (
        reads IS DISTINCT FROM 0 OR writes IS DISTINCT FROM 0
        OR read_bytes IS DISTINCT FROM 0 OR write_bytes IS DISTINCT FROM 0
    )
