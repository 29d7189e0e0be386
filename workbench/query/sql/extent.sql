-- First and last measured time, window length and number of windows of a cluster's load.
-- The distinct windows first: there are few of them, however many rows.
SELECT
    min(window_start) AS since,
    max(window_end) AS until,
    count(DISTINCT window_start) AS windows,
    CAST(min((epoch_us(window_end) - epoch_us(window_start)) // 1000) AS BIGINT) AS window_ms_min,
    CAST(max((epoch_us(window_end) - epoch_us(window_start)) // 1000) AS BIGINT) AS window_ms_max
FROM (SELECT DISTINCT window_start, window_end FROM load_window)
