-- Schedules to look at now, hidden from other callers for a second.
-- KEYS jobs dead schedules ticks
-- ARGV now_us limit
-- Returns {now, flat list of id, value}
-- include time schedule
local answers = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ticks, '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local value = redis.call('HGET', schedules, id)
  if not value then
    redis.call('ZREM', ticks, id)
  else
    local s = read_schedule(value)
    local live = {}
    for _, job in ipairs(s.live) do -- an eviction must not silence a schedule
      if redis.call('HEXISTS', jobs, job) == 1 and not redis.call('ZSCORE', dead, job) then
        live[#live + 1] = job
      end
    end
    if #live < #s.live then
      s.live = live
      write_schedule(id, s)
      value = redis.call('HGET', schedules, id)
    end
    redis.call('ZADD', ticks, now + 1000, id)
    answers[#answers + 1] = id
    answers[#answers + 1] = value
  end
end
return { string.format('%.0f', now), answers }
