-- The load of every route as it was measured, in the windows that start in [since, until): a
-- parent and its children each have their own. Null bounds leave that side of the time open.
-- A counter is null where any bucket lacks it: null means not measured, never 0.
SELECT
    route_id,
    "group",
    min(window_start) AS since,
    max(window_end) AS until,
    count(DISTINCT window_start) AS windows,
    CASE WHEN count(reads) = count(*) THEN CAST(sum(reads) AS BIGINT) END AS reads,
    CASE WHEN count(writes) = count(*) THEN CAST(sum(writes) AS BIGINT) END AS writes,
    CASE WHEN count(read_bytes) = count(*) THEN CAST(sum(read_bytes) AS BIGINT) END AS read_bytes,
    CASE WHEN count(write_bytes) = count(*) THEN CAST(sum(write_bytes) AS BIGINT) END
        AS write_bytes,
    CASE WHEN count(cpu_ns) = count(*) THEN CAST(sum(cpu_ns) AS BIGINT) END AS cpu_ns,
    min(coverage) AS coverage
FROM load_window
WHERE (CAST($since AS TIMESTAMPTZ) IS NULL OR window_start >= CAST($since AS TIMESTAMPTZ))
    AND (CAST($until AS TIMESTAMPTZ) IS NULL OR window_start < CAST($until AS TIMESTAMPTZ))
GROUP BY route_id, "group"
ORDER BY route_id, "group"
