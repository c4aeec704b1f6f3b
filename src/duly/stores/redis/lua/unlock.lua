-- Free a lock if the owner holds it.
-- KEYS lock
-- ARGV now_us owner
-- Returns 1 or 0
-- include time
local facts = redis.call('HMGET', lock, 'owner', 'until')
if facts[1] == ARGV[2] and tonumber(facts[2]) > now then
  redis.call('HDEL', lock, 'owner', 'until') -- the fence stays, so that it grows
  return 1
end
return 0
