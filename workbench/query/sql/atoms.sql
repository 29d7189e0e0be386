-- Load of every atom (a key, or a bucket by its start), ascending.
-- An atom is null where any of its events is: null means not measured, never 0.
SELECT
    key AS atom_start,
    CASE WHEN count(load) = count(*) THEN CAST(sum(load) AS BIGINT) END AS load
FROM event
GROUP BY key
ORDER BY key
