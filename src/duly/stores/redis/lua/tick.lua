-- Take one tick of a name for a member of a pool: the moments since the one that was taken before are its to run.
-- KEYS marks tick
-- ARGV now_us name moment member keep (ms for which a repeat is answered alike)
-- Returns {whether it is the member's, the mark before it ('' if there was none)}
local name, moment, member = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local taken = redis.call('GET', tick)
if taken then
  local holder, before = string.match(taken, '^(%S*) (%S*)$')
  return { holder == member and 1 or 0, before }
end
local mark = redis.call('HGET', marks, name)
if mark and tonumber(mark) >= moment then
  return { 0, mark }
end
redis.call('SET', tick, member .. ' ' .. (mark or ''), 'PX', ARGV[5])
redis.call('HSET', marks, name, ARGV[3])
return { 1, mark or '' }
