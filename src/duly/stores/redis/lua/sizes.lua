-- Counts and switches of the shard.
-- KEYS pending leased dead schedules meta
-- ARGV now_us
-- Returns {now, pending, leased, dead, schedules, paused, limit ('' for none), moved_at, paused_at}
-- include time
local count = 0
for p = 1, 4 do
  count = count + redis.call('ZCARD', pending[p])
end
local facts = redis.call('HMGET', meta, 'paused', 'limit', 'moved_at', 'paused_at')
return {
  string.format('%.0f', now), count, redis.call('ZCARD', leased), redis.call('ZCARD', dead),
  redis.call('HLEN', schedules), facts[1] or '0', facts[2] or '', facts[3] or '0',
  facts[1] == '1' and facts[4] or '0',
}
