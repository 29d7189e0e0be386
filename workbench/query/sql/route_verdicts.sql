-- The verdict on every route: how many proven windows in a row end the judged time, since when, and
-- what follows. A window proves `over` by what was counted less its error bound; one that is missing
-- or proves nothing ends the streak. docs/detection.md has the rule.
-- Reads the relations `route_window`, the answer of route_windows.sql, `route` (route_id), and
-- `split` (route_id, split_at_us), microseconds since the epoch, 0 for a route never split.
WITH judged AS (
    SELECT
        route_id,
        window_start,
        window_end,
        coverage,
        (epoch_us(window_end) - epoch_us(window_start)) / CAST(60000000 AS DOUBLE) AS minutes,
        error_bound,
        reads + writes AS accesses,
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
),
-- An error bound counts accesses: at most as many of the heaviest kind; of time or bytes in
-- proportion, and all of it where there are no more accesses than that.
measured AS (
    SELECT
        *,
        CASE
            WHEN error_bound = 0 THEN 0
            WHEN $use NOT IN ('cpu_ns', 'bytes')
            THEN least(error_bound * greatest($read_weight, $write_weight), load)
            WHEN accesses IS NULL OR accesses <= error_bound THEN load
            ELSE load * error_bound / accesses
        END AS error
    FROM judged
),
grid AS (
    SELECT
        window_start,
        lead(window_start) OVER (ORDER BY window_start) AS next_start,
        row_number() OVER (ORDER BY window_start) AS number,
        count(*) OVER () AS numbers
    FROM (SELECT DISTINCT window_start FROM judged)
),
cell AS (
    SELECT
        route.route_id,
        grid.number,
        grid.numbers,
        grid.window_start,
        measured.load,
        measured.coverage,
        measured.window_end,
        measured.load / minutes AS per_minute,
        coalesce(
            (load - error) / minutes >= CAST($threshold AS DOUBLE)
            AND (next_start IS NULL OR window_end = next_start),
            false
        ) AS is_over
    FROM route CROSS JOIN grid
    LEFT JOIN measured
        ON measured.route_id = route.route_id AND measured.window_start = grid.window_start
),
streak AS (
    SELECT
        route_id,
        any_value(numbers) - coalesce(max(number) FILTER (NOT is_over), 0) AS windows_over,
        max(load) FILTER (number = numbers) AS load,
        max(coverage) FILTER (number = numbers) AS coverage,
        max(per_minute) FILTER (number = numbers) AS per_minute,
        max(window_end) FILTER (number = numbers) AS last_end
    FROM cell
    GROUP BY route_id
),
judgement AS (
    SELECT
        route.route_id,
        coalesce(windows_over, 0) AS windows_over,
        CASE
            WHEN CAST($threshold AS DOUBLE) IS NULL THEN 'unknown'
            WHEN windows_over >= $windows_hot
            THEN CASE
                WHEN split_at_us > 0 AND epoch_us(last_end) < split_at_us + $cooldown_ms * 1000
                THEN 'cooling'
                ELSE 'hot'
            END
            WHEN windows_over > 0 THEN 'warming'
            WHEN load IS NULL OR coverage < $coverage_full THEN 'unknown'
            WHEN per_minute >= CAST($threshold AS DOUBLE) THEN 'unknown'
            ELSE 'cold'
        END AS verdict
    FROM route
    LEFT JOIN streak USING (route_id)
    LEFT JOIN split USING (route_id)
)
SELECT
    route_id,
    verdict,
    windows_over,
    CASE
        WHEN verdict = 'cold' THEN (SELECT max(window_start) FROM grid)
        ELSE (
            SELECT min(window_start) FROM grid WHERE windows_over > 0 AND number > numbers - windows_over
        )
    END AS proof_from
FROM judgement
ORDER BY route_id
