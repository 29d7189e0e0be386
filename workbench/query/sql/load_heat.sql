-- Load by bucket and time: every bucket as it was told, in columns of column_ms that begin at
-- whole multiples of it since 1970. Null bounds leave that side of the time open.
-- A counter is null where any window lacks it: null means not measured, never 0.
SELECT
    make_timestamptz(epoch_ms(window_start) // $column_ms * $column_ms * 1000) AS column_start,
    bucket_start,
    bucket_end,
    count(DISTINCT window_start) AS windows,
    CASE WHEN count(reads) = count(*) THEN CAST(sum(reads) AS BIGINT) END AS reads,
    CASE WHEN count(writes) = count(*) THEN CAST(sum(writes) AS BIGINT) END AS writes,
    CASE WHEN count(read_bytes) = count(*) THEN CAST(sum(read_bytes) AS BIGINT) END AS read_bytes,
    CASE WHEN count(write_bytes) = count(*) THEN CAST(sum(write_bytes) AS BIGINT) END
        AS write_bytes,
    CASE WHEN count(cpu_ns) = count(*) THEN CAST(sum(cpu_ns) AS BIGINT) END AS cpu_ns
FROM load_window
WHERE (CAST($since AS TIMESTAMPTZ) IS NULL OR window_start >= CAST($since AS TIMESTAMPTZ))
    AND (CAST($until AS TIMESTAMPTZ) IS NULL OR window_start < CAST($until AS TIMESTAMPTZ))
GROUP BY ALL
ORDER BY column_start, bucket_start, bucket_end NULLS LAST
