-- What a plan says of load that moves: what each part of the window carried, what of it lay beyond
-- every key seen before, and the heaviest route of each phase (a part's number modulo $period).
-- Reads `part_atom` (part, atom_start, load) and `route` (list, route_start, route_end), the lists
-- routes_before, routes_after and sum_cuts.
WITH owned AS (
    SELECT part_atom.*
    FROM part_atom SEMI JOIN route
        ON list = 'routes_before' AND atom_start >= route_start
        AND (route_end IS NULL OR atom_start < route_end)
    WHERE load > 0
),
seen AS (
    SELECT part, max(atom_start) AS highest FROM owned GROUP BY part
),
before AS (
    SELECT
        part,
        max(highest) OVER (ORDER BY part ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest
    FROM seen
),
phase AS (
    SELECT list, route_start, part % $period AS phase, sum(load) AS load
    FROM owned JOIN route
        ON atom_start >= route_start AND (route_end IS NULL OR atom_start < route_end)
    GROUP BY list, route_start, part % $period
)
SELECT 'load' AS figure, part AS part, CAST(sum(load) AS BIGINT) AS load FROM owned GROUP BY part
UNION ALL
SELECT 'beyond', part, CAST(coalesce(sum(load) FILTER (atom_start > highest), 0) AS BIGINT)
FROM owned JOIN before USING (part)
GROUP BY part
UNION ALL
SELECT list, NULL, CAST(max(load) AS BIGINT) FROM phase GROUP BY list
ORDER BY figure, part
