-- The windows in [since, until), and their routes, in which a bucket carried load and held a bound
-- that other windows have inside it; no row where all of them tell the same buckets.
WITH bound AS (
    SELECT DISTINCT bucket_start AS start
    FROM load_window
    WHERE window_start >= $since AND window_start < $until
),
part AS (
    SELECT start, lead(start) OVER (ORDER BY start) AS next_start FROM bound
)
SELECT DISTINCT window_start, window_end, route_id
FROM load_window
JOIN part ON part.start = load_window.bucket_start
WHERE window_start >= $since AND window_start < $until
    AND next_start IS NOT NULL
    AND (bucket_end IS NULL OR next_start < bucket_end)
    AND coalesce(reads, 0) + coalesce(writes, 0) + coalesce(cpu_ns, 0)
        + coalesce(read_bytes, 0) + coalesce(write_bytes, 0) > 0
ORDER BY window_start, route_id
