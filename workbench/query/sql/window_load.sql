-- The load of every bucket in every window that lies in [since, until).
-- Null load: something that the objective counts was not measured.
SELECT
    window_start,
    bucket_start,
    bucket_end,
    CASE WHEN $read_weight = 0 THEN 0 ELSE $read_weight * reads END
    + CASE WHEN $write_weight = 0 THEN 0 ELSE $write_weight * writes END
    + CASE WHEN $byte_weight = 0 THEN 0 ELSE $byte_weight * (read_bytes + write_bytes) END
    + CASE WHEN $cpu_weight = 0 THEN 0 ELSE $cpu_weight * cpu_ns END AS load
FROM load_window
WHERE window_start >= $since AND window_end <= $until
