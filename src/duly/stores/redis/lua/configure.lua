-- Pause or resume claims, limit the leased jobs of the cluster; a sleeper learns of what may give it work.
-- KEYS pending wake meta
-- ARGV now_us paused ('' leaves it, else 0 or 1) limit ('' leaves it, 0 takes it away)
-- Returns 1
-- include time wake
local paused, limit = ARGV[2], ARGV[3]
if paused ~= '' then
  if redis.call('HGET', meta, 'paused') ~= '1' then
    redis.call('HSET', meta, 'paused_at', string.format('%.0f', now))
  end
  redis.call('HSET', meta, 'paused', paused)
  if paused == '0' then
    redis.call('HDEL', meta, 'paused_at')
  end
end
if limit == '0' then
  redis.call('HDEL', meta, 'limit')
elseif limit ~= '' then
  redis.call('HSET', meta, 'limit', limit)
end
leave_token() -- what was held back may go now
return 1
