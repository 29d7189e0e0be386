-- The heaviest route by claim of a certificate, on the weights that the claim is about, and the
-- heaviest of those with more than one block that may be cut.
-- Reads `edge` (weights, place, upto), the running sums of the blocks, and `bound` (claim, weights,
-- place): where the routes of each claim begin, and the number of blocks at the end; `whole` (low,
-- high): routes that must not be cut. Sums are text: they may need more than 64 bits.
WITH piece AS (
    SELECT
        claim,
        weights,
        place AS low,
        lead(place) OVER (PARTITION BY claim, weights ORDER BY place) AS high
    FROM (SELECT DISTINCT claim, weights, place FROM bound)
),
weighed AS (
    SELECT
        claim,
        last.upto - first.upto AS load,
        piece.high - piece.low > 1 AND NOT EXISTS (
            SELECT 1 FROM whole WHERE whole.low = piece.low AND whole.high = piece.high
        ) AS is_shared
    FROM piece
    JOIN edge AS first ON first.weights = piece.weights AND first.place = piece.low
    JOIN edge AS last ON last.weights = piece.weights AND last.place = piece.high
)
SELECT
    claim,
    CAST(max(load) AS VARCHAR) AS heaviest,
    CAST(coalesce(max(load) FILTER (is_shared), 0) AS VARCHAR) AS shared
FROM weighed
GROUP BY claim
ORDER BY claim
