-- Say that a member of a pool lives, by a key that ends by itself, and look for the keys of all.
-- KEYS member
-- ARGV now_us record ttl (ms; 0: it leaves, -1: only look) cursor pattern count
-- Returns {cursor ('0': that was all), whether it was known, records}
local ttl = tonumber(ARGV[3])
local known = redis.call('EXISTS', member)
if ttl > 0 then
  redis.call('SET', member, ARGV[2], 'PX', ttl)
elseif ttl == 0 then
  redis.call('DEL', member)
end
local page = redis.call('SCAN', ARGV[4], 'MATCH', ARGV[5], 'COUNT', ARGV[6])
local records = {}
for i, key in ipairs(page[2]) do
  records[i] = redis.call('GET', key)
end
return { page[1], known, records }
