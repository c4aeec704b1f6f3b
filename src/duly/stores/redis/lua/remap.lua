-- Write the map of shards if nobody else has changed it.
-- KEYS map
-- ARGV now_us before ('' for none) after
-- Returns 1 or 0
if (redis.call('GET', map) or '') ~= ARGV[2] then
  return 0
end
redis.call('SET', map, ARGV[3])
return 1
