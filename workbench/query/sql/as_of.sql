-- The value of every key of [start, end) as of read_ts, ascending; no end for no upper bound.
-- A tombstone hides its key, and so does a value that had expired: by the physical time of
-- read_ts, whatever the clock says. Rows of `version` may come in any order.
SELECT
    key,
    newest.commit_ts AS commit_ts,
    newest.value AS value,
    newest.expire_at AS expire_at,
    newest."group" AS "group"
FROM (
    SELECT
        key,
        arg_max(struct_pack(commit_ts, kind, value, expire_at, "group"), commit_ts) AS newest
    FROM version
    WHERE commit_ts <= CAST($read_ts AS UBIGINT)
        AND key >= $start
        AND (CAST($end AS BLOB) IS NULL OR key < CAST($end AS BLOB))
    GROUP BY key
)
WHERE newest.kind = 'put'
    AND (
        newest.expire_at IS NULL
        OR epoch_us(newest.expire_at)
            > CAST(CAST($read_ts AS UBIGINT) >> 16 AS BIGINT) * 1000
    )
ORDER BY key
