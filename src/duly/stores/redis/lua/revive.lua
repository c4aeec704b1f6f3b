-- Dead jobs back to pending, due now, counts at zero.
-- KEYS jobs pending attempts dead wake
-- ARGV now_us, then ids
-- Returns 1 or 0 per id
-- include time wake record
local answers, any = {}, false
for i = 2, #ARGV do
  local id = ARGV[i]
  local value = redis.call('HGET', jobs, id)
  answers[#answers + 1] = 0
  if value and redis.call('ZREM', dead, id) == 1 then
    local _, priority = job_facts(value)
    redis.call('ZADD', pending[priority + 1], now, id)
    redis.call('HDEL', attempts, id)
    answers[#answers], any = 1, true
  end
end
if any then
  leave_token()
end
return answers
