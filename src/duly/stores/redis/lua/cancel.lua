-- Cancel jobs: a pending one is gone at once, the node of a leased one hears of it.
-- KEYS jobs pending leased attempts control errors progress dead ended unique schedules ticks wake
-- ARGV now_us remember, then ids
-- Returns one word per id: cancelled, asked, dead, ended, unknown
-- include time wake state record unique forget
local remember = tonumber(ARGV[2])
local answers = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local value = redis.call('HGET', jobs, id)
  local answer
  if not value then
    local until_ms = tonumber(redis.call('ZSCORE', ended, id) or nil)
    answer = until_ms and until_ms > now and 'ended' or 'unknown'
  else
    local state = state_of(id)
    if state == 'leased' then
      redis.call('HSET', control, id, 'cancel')
      answer = 'asked'
    elseif state == 'dead' then
      answer = 'dead'
    else
      if drop_job(id, value) then
        remember_id(id, remember)
      end
      answer = 'cancelled'
    end
  end
  answers[#answers + 1] = answer
end
forget_ended()
return answers
