-- What each span of the relation `span` stores as of read_ts: the bytes of the keys and values of
-- all versions on record that are not above it. Spans do not overlap; one that stores nothing is 0.
WITH stored AS (
    SELECT
        span_start,
        sum(octet_length(key) + coalesce(octet_length(value), 0)) FILTER (
            span_end IS NULL OR key < span_end
        ) AS bytes
    FROM (SELECT key, value FROM version WHERE commit_ts <= CAST($read_ts AS UBIGINT)) AS version
    ASOF JOIN span ON key >= span_start
    GROUP BY span_start
)
SELECT span_start, CAST(coalesce(bytes, 0) AS BIGINT) AS bytes
FROM span LEFT JOIN stored USING (span_start)
ORDER BY span_start
