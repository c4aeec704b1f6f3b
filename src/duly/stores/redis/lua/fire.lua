-- Advance marks, enqueue the jobs of the ticks and record what was skipped: one step per schedule, if (revision, mark)
-- are as they were read.
-- KEYS jobs pending leased running dead ended unique schedules ticks ticklog wake history meta
-- ARGV now_us node history, then per schedule one packed {id, revision, mark, new mark, next, look, counted, jobs, nominals, skipped, late, pause, waits, lease ms (0: none)}
-- Returns per schedule: fired, stale, or the fence under which its jobs are leased to the node
-- include time state record unique wake lasting tables keep history schedule ticklog
local node, history_limit = ARGV[2], tonumber(ARGV[3])
local answers, firings, ids = {}, {}, {}
local states, looks, born, fired_ids, leasing, leased_ids = {}, {}, {}, {}, {}, {}

for i = 4, #ARGV do
  local firing = cmsgpack.unpack(ARGV[i])
  firings[#firings + 1] = firing
  ids[#ids + 1] = firing[1]
end
local values = #ids > 0 and redis.call('HMGET', schedules, unpack(ids)) or {}

-- What is written is gathered, and written together at the end.
local function fire(number, firing, value)
  local id, revision, mark, new_mark, following, look, counted, items, nominals, skipped, late, pause, waits, lease = unpack(firing)
  local s = states[id] or (value and read_schedule(value))
  if not s or s.paused or s.revision ~= revision or s.mark ~= mark then
    return 'stale'
  end
  if waits and #s.live == 0 then
    return 'stale' -- the run it waits for has ended since, and has asked for a look
  end
  local live = counted and s.live or {}
  if #items > 0 then
    if lease > 0 then
      leasing[#leasing + 1] = { number, items, lease }
    end
    for i, item in ipairs(items) do
      live[#live + 1] = item[1]
      if lease == 0 then
        born[#born + 1] = item
      end
      fired_ids[#fired_ids + 1] = item[1]
      log_tick(history_limit, id, nominals[i], 'fired', '', 1)
    end
    s.live, s.fired, s.last = live, s.fired + #items, nominals[#nominals]
  end
  for i = 1, #skipped, 2 do
    count_skipped(s, skipped[i], skipped[i + 1])
    log_tick(history_limit, id, new_mark, 'skipped', skipped[i], skipped[i + 1])
  end
  if pause ~= '' then
    log_tick(history_limit, id, new_mark, 'paused', pause, 1)
  end
  s.mark, s.next, s.late, s.paused = new_mark, following, s.late + late, pause ~= '' and pause
  states[id], looks[id] = s, not s.paused and look or -1
  return 'fired'
end

for i, firing in ipairs(firings) do
  answers[i] = fire(i, firing, values[i])
end

local written, scores, silent, rouse = {}, {}, {}, false
for id, s in pairs(states) do
  written[#written + 1] = id
  written[#written + 1] = schedule_value(s)
  if looks[id] >= 0 then
    scores[#scores + 1] = looks[id]
    scores[#scores + 1] = id
  else
    silent[#silent + 1] = id
  end
end
if #written > 0 then
  redis.call('HSET', schedules, unpack(written))
end
if #scores > 0 then
  redis.call('ZADD', ticks, unpack(scores))
end
if #silent > 0 then
  redis.call('ZREM', ticks, unpack(silent))
end
for first = 1, #born, 1000 do
  local _, _, wake_up = keep_jobs({ unpack(born, first, math.min(first + 999, #born)) })
  rouse = rouse or wake_up
end
-- What has just come to be kept, out of its lines again, if all can be claimed now; the fence, or nil.
local function lease_new(items, ms)
  local facts = redis.call('HMGET', meta, 'paused', 'limit', 'fence')
  local cap = tonumber(facts[2])
  if facts[1] == '1' or (cap and redis.call('ZCARD', leased) + #items > cap) then
    return nil
  end
  local lines = {}
  for i, item in ipairs(items) do
    lines[i] = pending[(item[3] == '' and 1 or cmsgpack.unpack(item[3])[1]) + 1]
    if tonumber(redis.call('ZSCORE', lines[i], item[1])) > now then
      return nil
    end
  end
  local fence = string.format('%.0f', math.max((tonumber(facts[3]) or 0) + 1, now_us))
  redis.call('HSET', meta, 'fence', fence)
  for i, item in ipairs(items) do
    local id = item[1]
    redis.call('ZREM', lines[i], id)
    redis.call('ZADD', leased, now + ms, id)
    redis.call('HSET', running, id, fence .. ' 0 ' .. node)
    leased_ids[#leased_ids + 1] = id
  end
  return fence
end
for _, each in ipairs(leasing) do
  local number, items, ms = unpack(each)
  local known, _, wake_up = keep_jobs(items)
  rouse = rouse or wake_up
  answers[number] = not known and lease_new(items, ms) or 'fired'
end
if rouse then
  leave_token()
end
record(history_limit, 'fire', node, #fired_ids, fired_ids)
record(history_limit, 'claim', node, #leased_ids, leased_ids)
return answers
