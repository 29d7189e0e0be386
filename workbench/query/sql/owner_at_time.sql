-- The route that owned a key as of read_ts. A route begins with the split that made it
-- (split_at_hlc); one that tells no split begins with the first record of it, or, where that is
-- the first record of all, before everything.
-- Of the records of that route the last one up to then is shown, else the first one after.
-- Certain where the route was seen at that time or later, or the next owner on record is its
-- child: between two records there may have been splits that nobody recorded.
WITH holder AS (
    SELECT
        route.*,
        min(recorded_at) OVER (PARTITION BY route_id) AS first_seen_at,
        max(recorded_at) OVER (PARTITION BY route_id) AS last_seen_at,
        min(catalog_version) OVER (PARTITION BY route_id)
        = (SELECT min(catalog_version) FROM route) AS is_first
    FROM route
    WHERE "start" <= $key AND ("end" IS NULL OR "end" > $key)
),
owner AS (
    SELECT
        *,
        CASE
            WHEN split_at_hlc > 0 THEN split_at_hlc
            WHEN is_first THEN 0
            ELSE CAST(epoch_ms(first_seen_at) AS UBIGINT) << 16
        END AS begins_at,
        CAST(CAST($read_ts AS UBIGINT) >> 16 AS BIGINT) * 1000 AS asked_us
    FROM holder
)
SELECT
    route_id,
    "start",
    "end",
    "group",
    state,
    catalog_version,
    recorded_at,
    (split_at_hlc > 0 OR epoch_us(first_seen_at) <= asked_us)
    AND (
        epoch_us(last_seen_at) >= asked_us
        OR coalesce(
            (
                SELECT arg_min(later.parent_route_id, (later.begins_at, later.route_id))
                FROM owner AS later
                WHERE later.begins_at > CAST($read_ts AS UBIGINT)
            ) = owner.route_id,
            false
        )
    ) AS is_certain
FROM owner
WHERE begins_at <= CAST($read_ts AS UBIGINT)
ORDER BY
    begins_at DESC,
    route_id DESC,
    epoch_us(recorded_at) <= asked_us DESC,
    abs(epoch_us(recorded_at) - asked_us),
    catalog_version DESC
LIMIT 1
