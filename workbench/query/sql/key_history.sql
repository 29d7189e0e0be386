-- Every version of one key, newest first.
SELECT commit_ts, kind, value, expire_at, "group"
FROM version
WHERE key = $key
ORDER BY commit_ts DESC
