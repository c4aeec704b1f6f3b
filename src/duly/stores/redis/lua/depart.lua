-- Take jobs and schedules out of this shard, to be brought to another one: the batch stays here, leased to nobody who
-- could run it, until `departed` says that it has arrived. One batch is under way at a time; while one is, it is the answer.
-- KEYS jobs pending leased running attempts errors progress dead unique schedules ticks moving meta
-- ARGV now_us target name bytes, then the number of schedules, their ids, and ids of jobs; name: of these batches, if there is none
-- Returns {name, n, target, jobs, schedules}, {} if nothing could be taken; a job is {id, state, score, value, counts, error,
-- unique, progress}, a schedule {id, value, look ('' for none)}
-- include time state record unique schedule
local target, most = ARGV[2], tonumber(ARGV[4])
local facts = redis.call('HMGET', meta, 'move_n', 'move_to', 'move_name', 'fence')
local n, name = tonumber(facts[1] or '0'), facts[3] or ARGV[3]
local found_jobs, found_schedules, size = {}, {}, 0

local function answer()
  if #found_jobs + #found_schedules == 0 then
    return {}
  end
  return { name, string.format('%.0f', n), target, found_jobs, found_schedules }
end

local function job_of(id, state, score)
  local value = redis.call('HGET', jobs, id)
  local _, _, key = job_facts(value)
  local hold = key ~= '' and redis.call('HGET', unique, key) or ''
  if string.match(hold, '^%a+ %d+ (.*)$') ~= id then
    hold = '' -- another's by now
  end
  size = size + #value
  return {
    id, state, score, value, redis.call('HGET', attempts, id) or '', redis.call('HGET', errors, id) or '', hold,
    redis.call('HGET', progress, id) or '',
  }
end

if facts[2] and redis.call('EXISTS', moving) == 0 then -- an eviction took it
  redis.call('HDEL', meta, 'move_to')
elseif facts[2] then -- a batch is under way: the same again
  target = facts[2]
  local batch = redis.call('HGETALL', moving)
  for i = 1, #batch, 2 do
    local kind, rest = string.match(batch[i + 1], '^(%a+) (.*)$')
    local id = string.sub(batch[i], 3)
    if kind == 'schedule' then
      local look, value = string.match(rest, '^(%S*) (.*)$')
      found_schedules[#found_schedules + 1] = { id, value, look }
    elseif redis.call('HEXISTS', jobs, id) == 1 then
      found_jobs[#found_jobs + 1] = job_of(id, kind, rest)
    end
  end
  return answer()
end

n = math.max(n + 1, now_us) -- of one whose number was forgotten by a failover, the target knows that it came
local fence = string.format('%.0f', math.max((tonumber(facts[4] or nil) or 0) + 1, now_us))

-- Out of the line that it is in; leased without an end, so that no node takes it.
local function take_job(id)
  local value = redis.call('HGET', jobs, id)
  if not value or redis.call('ZSCORE', leased, id) then
    return
  end
  local _, priority = job_facts(value)
  local state, line = 'dead', dead
  local score = redis.call('ZSCORE', dead, id)
  if not score then
    state, line = 'pending', pending[priority + 1]
    score = redis.call('ZSCORE', line, id)
  end
  if not score then
    return
  end
  found_jobs[#found_jobs + 1] = job_of(id, state, score)
  redis.call('ZREM', line, id)
  redis.call('ZADD', leased, no_end, id)
  redis.call('HSET', running, id, fence .. ' 0 duly:move')
  redis.call('HSET', moving, 'j:' .. id, state .. ' ' .. score)
end

-- A schedule with a run under way stays until that has ended, so that its end is noted; meanwhile it makes no other run.
local function take_schedule(id)
  local value = redis.call('HGET', schedules, id)
  if not value then
    return
  end
  local s = read_schedule(value)
  local look = redis.call('ZSCORE', ticks, id) or ''
  for _, live in ipairs(s.live) do
    if redis.call('ZSCORE', leased, live) then
      if look ~= '' then
        redis.call('ZADD', ticks, math.max(tonumber(look), now + 10000), id)
      end
      return
    end
  end
  for _, live in ipairs(s.live) do
    take_job(live)
  end
  found_schedules[#found_schedules + 1] = { id, value, look }
  size = size + #value
  redis.call('HDEL', schedules, id)
  redis.call('ZREM', ticks, id)
  redis.call('HSET', moving, 's:' .. id, 'schedule ' .. look .. ' ' .. value)
end

local first_job = 6 + tonumber(ARGV[5])
for i = 6, #ARGV do
  if size > most then
    break
  end
  if i < first_job then
    take_schedule(ARGV[i])
  else
    take_job(ARGV[i])
  end
end
if #found_jobs + #found_schedules > 0 then
  redis.call('HSET', meta, 'move_n', string.format('%.0f', n), 'move_to', target, 'move_name', name, 'fence', fence)
end
return answer()
