-- The numbers behind every verdict: of each route the load of its judged windows and its share of
-- all routes', its rate in the last window, and its highest rate with the window of it.
-- Judged are all windows up to the last one that some route measured in full. A window counts for
-- a route where the objective's counters were measured; null where none was. Rates are a minute.
-- Reads the relation `route_window`: the answer of route_windows.sql.
SELECT
    route_id,
    CAST(sum(load) AS BIGINT) AS load,
    CASE
        WHEN sum(load) IS NULL THEN NULL
        WHEN sum(sum(load)) OVER () = 0 THEN 0
        ELSE CAST(sum(load) AS DOUBLE) / sum(sum(load)) OVER ()
    END AS share,
    max(load / minutes) FILTER (window_start = last_start) AS per_minute,
    max(load / minutes) AS peak_per_minute,
    arg_max(window_start, (load / minutes, -epoch_us(window_start))) FILTER (load IS NOT NULL)
        AS peak_at
FROM (
    SELECT
        route_id,
        window_start,
        max(window_start) OVER () AS last_start,
        (epoch_us(window_end) - epoch_us(window_start)) / CAST(60000000 AS DOUBLE) AS minutes,
        CASE
            WHEN $use = 'cpu_ns' THEN cpu_ns
            WHEN $use = 'bytes' THEN read_bytes + write_bytes
            ELSE CASE WHEN $read_weight = 0 THEN 0 ELSE $read_weight * reads END
                + CASE WHEN $write_weight = 0 THEN 0 ELSE $write_weight * writes END
        END AS load
    FROM route_window
    WHERE route_id IS NOT NULL
        AND window_start <= (
            SELECT max(window_start) FROM route_window
            WHERE route_id IS NOT NULL AND coverage >= $coverage_full
        )
)
GROUP BY route_id
ORDER BY route_id
