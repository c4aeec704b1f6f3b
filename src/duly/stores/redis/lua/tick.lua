-- Take ticks for a member of a pool, each one or not: the moments since the one that was taken before are its to run. After the
-- named key comes the key of each tick.
-- KEYS marks
-- ARGV now_us member keep (ms for which a repeat is answered alike), then per tick: name moment
-- Returns per tick: the mark before it ('' if there was none), or nothing if it is not the member's
local member, answers = ARGV[2], {}
for i = KEYS_NAMED + 1, #KEYS do
  local tick, at = KEYS[i], 4 + 2 * (i - KEYS_NAMED - 1)
  local name, moment, answer = ARGV[at], ARGV[at + 1], false
  local taken = redis.call('GET', tick)
  if taken then
    local holder, before = string.match(taken, '^(%S*) (%S*)$')
    answer = holder == member and before
  else
    local mark = redis.call('HGET', marks, name)
    if not mark or tonumber(mark) < tonumber(moment) then
      answer = mark or ''
      redis.call('SET', tick, member .. ' ' .. answer, 'PX', ARGV[3])
      redis.call('HSET', marks, name, moment)
    end
  end
  answers[#answers + 1] = answer
end
return answers
