-- What sampled accesses tell of every route of the relation `route` in every window that starts
-- in [since, until), by key: the estimate of its load, the variance of that, and how many samples.
-- A sample stands for `weight` accesses; its share of the variance is that of being taken with
-- chance 1 / weight, and none where every access was taken.
SELECT
    route_id,
    window_start,
    window_end,
    count(*) AS samples,
    sum(weight * counts_for) AS load,
    sum(weight * counts_for * weight * counts_for * (1 - 1 / weight)) AS variance
FROM (
    SELECT
        window_start,
        window_end,
        key,
        weight,
        CASE WHEN op = 'write' THEN $write_weight ELSE $read_weight END AS counts_for
    FROM key_sample
    WHERE window_start >= $since AND window_start < $until
) AS sample
ASOF JOIN (SELECT route_id, route_start, route_end FROM route) AS owner
    ON sample.key >= owner.route_start
WHERE route_end IS NULL OR key < route_end
GROUP BY route_id, window_start, window_end
ORDER BY route_id, window_start
