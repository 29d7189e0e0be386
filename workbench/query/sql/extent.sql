-- First and last measured time, window length and number of windows of a cluster's load.
SELECT
    min(window_start) AS since,
    max(window_end) AS until,
    count(DISTINCT window_start) AS windows,
    min(date_diff('millisecond', window_start, window_end)) AS window_ms_min,
    max(date_diff('millisecond', window_start, window_end)) AS window_ms_max
FROM load_window
