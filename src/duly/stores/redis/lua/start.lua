-- Mark runs as started, if their leases are still held; safe to repeat.
-- KEYS running
-- ARGV now_us, then per run: id fence
-- Returns 1 or 0 per run
-- include held
redis.call('HDEL', running, '') -- a full store refuses a script whose first write adds
local answers = {}
for i = 2, #ARGV, 2 do
  local id, fence = ARGV[i], ARGV[i + 1]
  local entry = redis.call('HGET', running, id)
  answers[#answers + 1] = 0
  if holds(entry, fence) then
    redis.call('HSET', running, id, fence .. ' 1 ' .. string.sub(entry, #fence + 4))
    answers[#answers] = 1
  end
end
return answers
