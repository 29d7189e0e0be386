-- Time of the last recorded access; null where there is none.
SELECT max(time) AS last
FROM access
