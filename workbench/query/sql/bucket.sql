-- Every start of a bucket in window_load, with the rows and the load there, and its island.
-- Buckets may differ between windows and routes: finer later, children after a split. Those that
-- overlap and have load make one island, because nobody can tell on which side of a bound inside
-- of it that load was: an island starts at a start that lies inside no bucket with load.
-- Where all windows have the same buckets, every bucket is an island.
SELECT
    bucket_start,
    max(CASE WHEN is_island THEN bucket_start END) OVER (
        ORDER BY bucket_start ROWS UNBOUNDED PRECEDING
    ) AS island_start,
    row_count,
    measured_count,
    load
FROM (
    SELECT
        *,
        coalesce(max(loaded_until) OVER below <= bucket_start, true)
        AND NOT coalesce(bool_or(loaded_without_end) OVER below, false) AS is_island
    FROM (
        SELECT
            bucket_start,
            count(*) AS row_count,
            count(load) AS measured_count,
            sum(load) AS load,
            max(bucket_end) FILTER (WHERE load IS DISTINCT FROM 0) AS loaded_until,
            bool_or(bucket_end IS NULL AND load IS DISTINCT FROM 0) AS loaded_without_end
        FROM window_load
        GROUP BY bucket_start
    )
    WINDOW below AS (ORDER BY bucket_start ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
)
