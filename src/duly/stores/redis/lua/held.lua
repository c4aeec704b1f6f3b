-- Who holds a lock, and how many wait for it.
-- KEYS lock held waits
-- ARGV now_us limit
-- Returns {held, waiting, a flat list of owner, fence, until}: at most `limit`, those that end first
-- include time
local after = '(' .. string.format('%.0f', now)
local found = redis.call('ZRANGEBYSCORE', held, after, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local places = {}
for i = 1, #found, 2 do
  places[#places + 1] = found[i]
  places[#places + 1] = redis.call('HGET', lock, 'o:' .. found[i]) or '0' -- an eviction took it
  places[#places + 1] = found[i + 1]
end
return { redis.call('ZCOUNT', held, after, '+inf'), redis.call('ZCOUNT', waits, after, '+inf'), places }
