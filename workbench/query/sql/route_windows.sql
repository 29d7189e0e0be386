-- Load, coverage and error bound of every route in every window that starts in [since, until).
-- A counter is null where any bucket of the route lacks it: null means not measured, never 0.
-- Coverage is that of the worst bucket; the error bounds of the buckets add up.
SELECT
    route_id,
    window_start,
    window_end,
    CASE WHEN count(reads) = count(*) THEN CAST(sum(reads) AS BIGINT) END AS reads,
    CASE WHEN count(writes) = count(*) THEN CAST(sum(writes) AS BIGINT) END AS writes,
    CASE WHEN count(read_bytes) = count(*) THEN CAST(sum(read_bytes) AS BIGINT) END AS read_bytes,
    CASE WHEN count(write_bytes) = count(*) THEN CAST(sum(write_bytes) AS BIGINT) END AS write_bytes,
    CASE WHEN count(cpu_ns) = count(*) THEN CAST(sum(cpu_ns) AS BIGINT) END AS cpu_ns,
    min(coverage) AS coverage,
    sum(coalesce(error_bound, 0)) AS error_bound
FROM load_window
WHERE window_start >= $since AND window_start < $until
GROUP BY route_id, window_start, window_end
ORDER BY route_id, window_start
