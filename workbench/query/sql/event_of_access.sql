-- Every recorded access in [since, until) with its load.
-- Null load: the objective counts bytes, and the trace does not tell them; or CPU, which none tells.
SELECT
    time,
    key,
    CASE WHEN op = 'write' THEN $write_weight ELSE $read_weight END
    + CASE WHEN $byte_weight = 0 THEN 0 ELSE $byte_weight * size END
    + CASE WHEN $cpu_weight = 0 THEN 0 END AS load
FROM access
WHERE time >= $since AND time < $until
