-- Take one of a lock's places, or extend the owner's own; who finds none may stand in the line.
-- KEYS lock held line waits
-- ARGV now_us owner ttl places waiting (ms for which its place in the line is kept; 0: it does not wait)
-- Returns the fence, or nothing if there is no place for the owner
-- include time turn
local owner, ttl, places, waiting = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

-- What is left over by the limit counts as held, or as waiting, until the next call.
for _, one in ipairs(redis.call('ZRANGEBYSCORE', held, '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', held, one)
  redis.call('HDEL', lock, 'o:' .. one)
end
for _, one in ipairs(redis.call('ZRANGEBYSCORE', waits, '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', waits, one)
  redis.call('ZREM', line, one)
end
if redis.call('ZCARD', line) ~= redis.call('ZCARD', waits) then
  redis.call('DEL', line, waits) -- one was evicted: the living stand in line again with their next try
end

local fence = redis.call('ZSCORE', held, owner) and redis.call('HGET', lock, 'o:' .. owner)
local ahead = redis.call('ZRANK', line, owner)
if fence or ahead then
  redis.call('HDEL', lock, '') -- a full store refuses a script whose first write adds: who is known goes on
end
if not fence then
  if (ahead or redis.call('ZCARD', line)) < places - redis.call('ZCARD', held) then
    fence = string.format('%.0f', math.max((tonumber(redis.call('HGET', lock, 'fence')) or 0) + 1, now_us))
    redis.call('HSET', lock, 'fence', fence, 'o:' .. owner, fence)
    redis.call('ZREM', line, owner)
    redis.call('ZREM', waits, owner)
  elseif waiting > 0 then
    if not ahead then
      local last = redis.call('ZRANGE', line, -1, -1, 'WITHSCORES')[2]
      redis.call('ZADD', line, (tonumber(last) or 0) + 1, owner)
    end
    redis.call('ZADD', waits, now + waiting, owner)
  end
end
if fence then
  redis.call('ZADD', held, now + ttl, owner)
  if redis.call('ZCARD', held) < places then
    call_next()
  end
end
local longest = tonumber(redis.call('ZRANGE', held, -1, -1, 'WITHSCORES')[2]) or now
for _, key in ipairs({ lock, held, line, waits }) do
  redis.call('PEXPIRE', key, longest - now + 604800000) -- they stay a while longer, for the fence
end
return fence
