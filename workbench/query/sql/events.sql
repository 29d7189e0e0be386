-- The events themselves, for replay; their order does not matter.
SELECT time, key, CAST(load AS BIGINT) AS load
FROM event
