-- What a plan says of groups: load before and after by group, the heaviest by weight, what moves.
-- Reads `placed` (group_before, group_after, load, size), one row per route after the plan, with
-- what it stores, and `weight` (group, weight); a group of weight 0 must be left.
WITH each_group AS (
    SELECT
        weight."group",
        weight.weight,
        (SELECT coalesce(sum(load), 0) FROM placed WHERE group_before = weight."group") AS before,
        (SELECT coalesce(sum(load), 0) FROM placed WHERE group_after = weight."group") AS after
    FROM weight
)
SELECT
    "group",
    weight,
    CAST(before AS BIGINT) AS before,
    CAST(after AS BIGINT) AS after,
    CASE WHEN weight > 0 THEN CAST(before * $scale // weight AS BIGINT) END AS before_weighted,
    CASE WHEN weight > 0 THEN CAST(after * $scale // weight AS BIGINT) END AS after_weighted,
    CAST((SELECT coalesce(sum(size), 0) FROM placed WHERE group_before <> group_after) AS BIGINT)
        AS moved
FROM each_group
ORDER BY "group"
