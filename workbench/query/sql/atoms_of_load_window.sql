-- Load of every atom (an island of buckets, by its start), ascending.
-- An atom is null where any of its rows is: null means not measured, never 0.
SELECT
    island_start AS atom_start,
    CASE WHEN sum(measured_count) = sum(row_count) THEN CAST(sum(load) AS BIGINT) END AS load
FROM bucket
GROUP BY island_start
ORDER BY island_start
