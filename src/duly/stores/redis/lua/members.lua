-- Say that a member of a pool lives, until a moment of the server's clock, or that it leaves; those whose moment is past are gone.
-- KEYS members records
-- ARGV now_us member record ttl (ms; 0: it leaves, -1: only look)
-- Returns {whether it was known, records of all who live}
-- include time
local member, ttl = ARGV[2], tonumber(ARGV[4])
if ttl >= 0 then
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', members, '-inf', now)) do
    redis.call('ZREM', members, gone)
    redis.call('HDEL', records, gone)
  end
end
local known = redis.call('ZSCORE', members, member) and 1 or 0
if ttl > 0 then
  redis.call('ZADD', members, now + ttl, member)
  redis.call('HSET', records, member, ARGV[3])
  if redis.call('PTTL', members) < 2 * ttl then -- another one may live longer
    redis.call('PEXPIRE', members, 2 * ttl)
    redis.call('PEXPIRE', records, 2 * ttl)
  end
elseif ttl == 0 then
  redis.call('ZREM', members, member)
  redis.call('HDEL', records, member)
end
local living = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', members, '(' .. string.format('%.0f', now), '+inf')) do
  living[#living + 1] = redis.call('HGET', records, id) or nil
end
return { known, living }
