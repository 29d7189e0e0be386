-- Load, coverage and error bound of every route of the relation `route` in every window that
-- starts in [since, until), by key: a bucket counts for the route in whose span it lies, whatever
-- route it was measured on (its parent, before a split).
-- A bucket with load that lies in no route's span whole is nobody's: such rows are summed under
-- the route null, and for the routes that they touch they are as good as not measured.
-- A counter is null where any bucket of the route lacks it: null means not measured, never 0.
-- Coverage is that of the worst bucket of each route measured on, added up over those; the error
-- bounds of the buckets add up.
WITH bucket AS (
    SELECT DISTINCT bucket_start, bucket_end
    FROM load_window
    WHERE window_start >= $since AND window_start < $until
),
placed AS (
    SELECT
        bucket_start,
        bucket_end,
        route.route_id AS owner,
        coalesce(
            route.route_id IS NOT NULL AND (route_end IS NULL OR bucket_end <= route_end), false
        ) AS is_inside
    FROM bucket ASOF LEFT JOIN route ON bucket_start >= route_start
),
piece AS (
    SELECT bucket_start, bucket_end, owner, is_inside
    FROM placed
    WHERE is_inside
    UNION ALL
    SELECT bucket_start, bucket_end, route_id AS owner, is_inside
    FROM placed
    JOIN route ON (bucket_end IS NULL OR route_start < bucket_end)
        AND (route_end IS NULL OR bucket_start < route_end)
    WHERE NOT is_inside
    UNION ALL
    SELECT bucket_start, bucket_end, NULL AS owner, is_inside
    FROM placed
    WHERE NOT is_inside
),
measured AS (
    SELECT
        load_window.*,
        owner,
        -- Nothing divided is nothing on every side.
        owner IS NULL OR is_inside OR NOT has_load AS is_told
    FROM (
        SELECT
            *, coalesce(greatest(reads, writes, read_bytes, write_bytes, cpu_ns), 0) > 0 AS has_load
        FROM load_window
        WHERE window_start >= $since AND window_start < $until
    ) AS load_window
    JOIN piece ON piece.bucket_start = load_window.bucket_start
        AND piece.bucket_end IS NOT DISTINCT FROM load_window.bucket_end
    WHERE owner IS NOT NULL OR has_load
),
source AS (
    SELECT
        owner,
        window_start,
        window_end,
        count(*) FILTER (is_told) AS row_count,
        count(reads) FILTER (is_told) AS reads_count,
        count(writes) FILTER (is_told) AS writes_count,
        count(read_bytes) FILTER (is_told) AS read_bytes_count,
        count(write_bytes) FILTER (is_told) AS write_bytes_count,
        count(cpu_ns) FILTER (is_told) AS cpu_ns_count,
        sum(reads) FILTER (is_told) AS reads,
        sum(writes) FILTER (is_told) AS writes,
        sum(read_bytes) FILTER (is_told) AS read_bytes,
        sum(write_bytes) FILTER (is_told) AS write_bytes,
        sum(cpu_ns) FILTER (is_told) AS cpu_ns,
        min(CASE WHEN is_told THEN coverage ELSE 0 END) AS coverage,
        coalesce(sum(error_bound) FILTER (is_told), 0) AS error_bound
    FROM measured
    GROUP BY owner, route_id, window_start, window_end
)
SELECT
    owner AS route_id,
    window_start,
    window_end,
    CAST(sum(row_count) AS BIGINT) AS row_count,
    CASE WHEN sum(reads_count) = sum(row_count) THEN CAST(sum(reads) AS BIGINT) END AS reads,
    CASE WHEN sum(writes_count) = sum(row_count) THEN CAST(sum(writes) AS BIGINT) END AS writes,
    CASE WHEN sum(read_bytes_count) = sum(row_count) THEN CAST(sum(read_bytes) AS BIGINT) END
        AS read_bytes,
    CASE WHEN sum(write_bytes_count) = sum(row_count) THEN CAST(sum(write_bytes) AS BIGINT) END
        AS write_bytes,
    CASE WHEN sum(cpu_ns_count) = sum(row_count) THEN CAST(sum(cpu_ns) AS BIGINT) END AS cpu_ns,
    least(1, sum(coverage)) AS coverage,
    sum(error_bound) AS error_bound
FROM source
GROUP BY owner, window_start, window_end
ORDER BY owner NULLS LAST, window_start
