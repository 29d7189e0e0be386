-- Every row of window_load as an event at the start of its island.
SELECT
    window_start AS time,
    coalesce(island_start, bucket_start) AS key,
    load
FROM window_load
LEFT JOIN (
    SELECT bucket_start, island_start FROM bucket WHERE island_start <> bucket_start
) USING (bucket_start)
