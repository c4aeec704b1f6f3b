-- Schedules to look at now, hidden from other callers for a second.
-- KEYS jobs dead schedules ticks
-- ARGV now_us limit until (0: now)
-- Returns {now, flat list of id, value}
-- include time schedule
local until_ms = math.min(math.max(now, tonumber(ARGV[3])), now + 1000)
local ids = redis.call('ZRANGEBYSCORE', ticks, '-inf', until_ms, 'LIMIT', 0, ARGV[2])
local values = #ids > 0 and redis.call('HMGET', schedules, unpack(ids)) or {}
local answers, hidden = {}, {}

-- An eviction must not silence a schedule: runs whose job is gone do not live.
local function forget_vanished(id, s)
  local live = {}
  for _, job in ipairs(s.live) do
    if redis.call('HEXISTS', jobs, job) == 1 and not redis.call('ZSCORE', dead, job) then
      live[#live + 1] = job
    end
  end
  if #live < #s.live then
    s.live = live
    write_schedule(id, s)
    return schedule_value(s)
  end
end

for i, id in ipairs(ids) do
  local value = values[i]
  if not value then
    redis.call('ZREM', ticks, id)
  else
    local s = read_schedule(value)
    hidden[#hidden + 1] = until_ms + 1000
    hidden[#hidden + 1] = id
    answers[#answers + 1] = id
    answers[#answers + 1] = #s.live > 0 and forget_vanished(id, s) or value
  end
end
if #hidden > 0 then
  redis.call('ZADD', ticks, unpack(hidden))
end
return { string.format('%.0f', now), answers }
