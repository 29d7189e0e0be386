-- The load windows that start in [since, until), as they were collected.
SELECT *
FROM load_window
WHERE window_start >= $since AND window_start < $until
ORDER BY window_start, bucket_start
