-- Extend leases, also ended ones that nobody took.
-- KEYS leased running control progress meta
-- ARGV now_us, then per lease: id fence ms progress ('' leaves it)
-- Returns one letter per lease: a(pplied), t(aken), c(ancel asked)
-- include time held stamp
redis.call('HDEL', running, '') -- a full store refuses a script whose first write adds
local longest, shortest
for i = 4, #ARGV, 4 do
  local ms = tonumber(ARGV[i])
  longest, shortest = math.max(longest or ms, ms), math.min(shortest or ms, ms)
end
if longest then
  local facts = redis.call('HMGET', meta, 'seen', 'hold', 'held_at')
  local _, _, changes = stamp({ seen = facts[1], hold = facts[2], held_at = facts[3] }, longest, shortest)
  redis.call('HSET', meta, unpack(changes))
end
local answers = {}
for i = 2, #ARGV, 4 do
  local id, fence, ms, report = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local letter = 't'
  if holds(redis.call('HGET', running, id), fence) then
    redis.call('ZADD', leased, now + ms, id)
    if report ~= '' then
      redis.call('HSET', progress, id, report)
    end
    letter = redis.call('HEXISTS', control, id) == 1 and 'c' or 'a'
  end
  answers[#answers + 1] = letter
end
return table.concat(answers)
