-- Take a free lock, or extend the owner's own.
-- KEYS lock
-- ARGV now_us owner ttl
-- Returns the fence, or '' if another holds it
-- include time
local owner, ttl = ARGV[2], tonumber(ARGV[3])
local facts = redis.call('HMGET', lock, 'owner', 'until', 'fence')
local fence = tonumber(facts[3] or nil) or 0
if facts[1] and tonumber(facts[2]) > now then
  if facts[1] ~= owner then
    return ''
  end
else
  fence = math.max(fence + 1, now_us)
end
redis.call('HSET', lock, 'owner', owner, 'until', string.format('%.0f', now + ttl), 'fence', string.format('%.0f', fence))
redis.call('PEXPIRE', lock, ttl + 604800000) -- `until` decides; the key stays a while longer for its fence
return string.format('%.0f', fence)
