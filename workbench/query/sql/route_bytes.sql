-- What every route of a catalog version holds as of read_ts: keys that have a value, tombstones,
-- versions, and their bytes; by the newest version on record that is not above the one asked for.
-- Versions in no route's span are summed under the route null.
WITH span AS (
    SELECT DISTINCT catalog_version, route_id, "start" AS route_start, "end" AS route_end, "group"
    FROM route
    WHERE catalog_version = (
        SELECT max(catalog_version) FROM route WHERE catalog_version <= $catalog_version
    )
),
stored AS (
    SELECT
        key,
        count(*) AS versions,
        count(*) FILTER (kind = 'tombstone') AS tombstones,
        sum(octet_length(value)) AS value_bytes,
        arg_max(struct_pack(kind, expire_at), commit_ts) AS newest
    FROM version
    WHERE commit_ts <= CAST($read_ts AS UBIGINT)
    GROUP BY key
),
placed AS (
    SELECT
        CASE WHEN route_end IS NULL OR key < route_end THEN route_id END AS route_id,
        count(*) FILTER (
            newest.kind = 'put'
            AND (
                newest.expire_at IS NULL
                OR epoch_us(newest.expire_at)
                    > CAST(CAST($read_ts AS UBIGINT) >> 16 AS BIGINT) * 1000
            )
        ) AS live_keys,
        sum(tombstones) AS tombstones,
        sum(versions) AS versions,
        sum(octet_length(key) * versions) AS key_bytes,
        sum(value_bytes) AS value_bytes
    FROM stored ASOF LEFT JOIN span ON key >= route_start
    GROUP BY ALL
)
SELECT
    span.catalog_version,
    coalesce(span.route_id, placed.route_id) AS route_id,
    route_start AS "start",
    route_end AS "end",
    "group",
    CAST(coalesce(live_keys, 0) AS BIGINT) AS live_keys,
    CAST(coalesce(tombstones, 0) AS BIGINT) AS tombstones,
    CAST(coalesce(versions, 0) AS BIGINT) AS versions,
    CAST(coalesce(key_bytes, 0) AS BIGINT) AS key_bytes,
    CAST(coalesce(value_bytes, 0) AS BIGINT) AS value_bytes
FROM span FULL JOIN placed ON span.route_id = placed.route_id
ORDER BY route_start NULLS LAST
