-- Dead jobs back to pending, due now, counts at zero, their results gone; with waiting, pending ones are due now too.
-- KEYS jobs pending attempts dead wake
-- ARGV now_us waiting (1 or 0), then ids; their result keys are further KEYS
-- Returns 1 or 0 per id
-- include time wake record
local waiting, answers, any = ARGV[2] == '1', {}, false
for i = 3, #ARGV do
  local id = ARGV[i]
  local value = redis.call('HGET', jobs, id)
  answers[#answers + 1] = 0
  if value and redis.call('ZREM', dead, id) == 1 then
    local _, priority = job_facts(value)
    redis.call('ZADD', pending[priority + 1], now, id)
    redis.call('HDEL', attempts, id)
    redis.call('DEL', KEYS[KEYS_NAMED + i - 2])
    answers[#answers], any = 1, true
  elseif value and waiting then
    local _, priority = job_facts(value)
    if redis.call('ZSCORE', pending[priority + 1], id) then
      redis.call('ZADD', pending[priority + 1], 'LT', now, id)
      answers[#answers], any = 1, true
    end
  end
end
if any then
  leave_token()
end
return answers
