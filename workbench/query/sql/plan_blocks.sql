-- The blocks of a plan: atoms of one route that no permitted cut parts, numbered from 0, ascending.
-- `keys` counts the atoms with load. Reads `atom` (atom_start, load), `route` (route_start,
-- route_end), `forbidden` (span_start, span_end) and `boundary` (key); docs/formats/plan.md, Blocks.
WITH placed AS (
    SELECT
        atom_start,
        load,
        lag(atom_start) OVER (PARTITION BY route_start ORDER BY atom_start) AS below
    FROM atom ASOF JOIN route ON atom_start >= route_start
    WHERE route_end IS NULL OR atom_start < route_end
),
candidate AS (
    SELECT atom_start, atom_start AS cut
    FROM placed
    WHERE NOT $is_listed AND ($prefix_bytes IS NULL OR NOT $is_key)
        AND ($prefix_bytes IS NULL OR octet_length(atom_start) <= $prefix_bytes)
    UNION ALL
    SELECT atom_start, unhex(left(hex(atom_start), 2 * $prefix_bytes)) AS cut
    FROM placed
    WHERE $is_key AND $prefix_bytes IS NOT NULL
        AND unhex(left(hex(atom_start), 2 * $prefix_bytes)) > below
    UNION ALL
    SELECT atom_start, key AS cut
    FROM placed JOIN boundary ON key <= atom_start AND key > below
    WHERE $is_listed AND ($is_key OR key = atom_start)
),
free AS (
    SELECT DISTINCT atom_start
    FROM candidate
    WHERE NOT EXISTS (
        SELECT 1 FROM forbidden
        WHERE cut >= span_start AND (span_end IS NULL OR cut < span_end)
    )
)
SELECT
    block,
    min(atom_start) AS block_start,
    CAST(sum(load) AS BIGINT) AS load,
    count(*) FILTER (load > 0) AS keys,
    count(*) AS atoms
FROM (
    SELECT
        placed.*,
        sum(CASE WHEN below IS NULL OR free.atom_start IS NOT NULL THEN 1 ELSE 0 END)
            OVER (ORDER BY placed.atom_start) - 1 AS block
    FROM placed LEFT JOIN free ON placed.atom_start = free.atom_start
)
GROUP BY block
ORDER BY block
