-- Load of one span: the number behind each figure of a plan.
-- $span_end is null where the span has no upper bound.
SELECT CAST(coalesce(sum(load), 0) AS BIGINT) AS load
FROM event
WHERE key >= $span_start AND ($span_end IS NULL OR key < $span_end)
