-- Schedules by id, or a page of all.
-- KEYS schedules
-- ARGV now_us cursor limit, then ids (if any: only those)
-- Returns {next cursor ('0': over), flat list of id, value (0 if there is none)}
local answers = {}
if #ARGV > 3 then
  for i = 4, #ARGV do
    answers[#answers + 1] = ARGV[i]
    answers[#answers + 1] = redis.call('HGET', schedules, ARGV[i]) or 0
  end
  return { '0', answers }
end
return redis.call('HSCAN', schedules, ARGV[2], 'COUNT', ARGV[3])
