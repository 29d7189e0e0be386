-- Load of every span that a plan names: the number behind its routes, children and keys.
-- Reads `atom` (atom_start, load) and `span` (list, position, span_start, span_end).
WITH running AS (
    SELECT atom_start, sum(load) OVER (ORDER BY atom_start) AS upto FROM atom
),
bound AS (
    SELECT DISTINCT key
    FROM (SELECT span_start AS key FROM span UNION ALL SELECT span_end FROM span)
    WHERE key IS NOT NULL
),
below AS (
    SELECT key, coalesce(upto, 0) AS upto FROM bound ASOF LEFT JOIN running ON key > atom_start
)
SELECT
    list,
    position,
    CAST(
        coalesce(high.upto, (SELECT coalesce(sum(load), 0) FROM atom)) - low.upto AS BIGINT
    ) AS load
FROM span
JOIN below AS low ON low.key = span_start
LEFT JOIN below AS high ON high.key = span_end
ORDER BY list, position
