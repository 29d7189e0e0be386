-- The route that owned a key at a catalog version: by the newest version on record that is not
-- above it. No row where that version leaves the key to nobody, or none is on record.
-- Certain where that very version is on record, or the first one above it tells the same route:
-- a route id is never used again.
WITH version_of AS (
    SELECT
        (SELECT max(catalog_version) FROM route WHERE catalog_version <= $catalog_version) AS below,
        (SELECT min(catalog_version) FROM route WHERE catalog_version >= $catalog_version) AS above
),
owner AS (
    SELECT route.*
    FROM route
    WHERE "start" <= $key AND ("end" IS NULL OR "end" > $key)
)
SELECT
    route_id,
    "start",
    "end",
    "group",
    state,
    catalog_version,
    recorded_at,
    catalog_version = $catalog_version
    OR coalesce(
        (
            SELECT bool_or(later.route_id = owner.route_id AND later."group" = owner."group")
            FROM owner AS later
            WHERE later.catalog_version = (SELECT above FROM version_of)
        ),
        false
    ) AS is_certain
FROM owner
WHERE catalog_version = (SELECT below FROM version_of)
ORDER BY recorded_at
LIMIT 1
