-- Advance marks, enqueue the jobs of the ticks and record what was skipped: one step per schedule, if (revision, mark)
-- are as they were read.
-- KEYS jobs pending leased dead ended unique schedules ticks ticklog wake history meta
-- ARGV now_us node history, then per schedule one packed {id, revision, mark, new mark, next, look, counted, jobs, nominals, skipped, late, pause, waits}
-- Returns fired or stale per schedule
-- include time state record unique wake lasting keep history schedule ticklog
local node, history_limit = ARGV[2], tonumber(ARGV[3])
local answers, firings, ids = {}, {}, {}
local states, looks, born, fired_ids = {}, {}, {}, {}

for i = 4, #ARGV do
  local firing = cmsgpack.unpack(ARGV[i])
  firings[#firings + 1] = firing
  ids[#ids + 1] = firing[1]
end
local values = #ids > 0 and redis.call('HMGET', schedules, unpack(ids)) or {}

-- What is written is gathered, and written together at the end.
local function fire(firing, value)
  local id, revision, mark, new_mark, following, look, counted, items, nominals, skipped, late, pause, waits = unpack(firing)
  local s = states[id] or (value and read_schedule(value))
  if not s or s.paused or s.revision ~= revision or s.mark ~= mark then
    return 'stale'
  end
  if waits and #s.live == 0 then
    return 'stale' -- the run it waits for has ended since, and has asked for a look
  end
  local live = counted and s.live or {}
  if #items > 0 then
    for i, item in ipairs(items) do
      live[#live + 1] = item[1]
      born[#born + 1] = item
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
  answers[i] = fire(firing, values[i])
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
if rouse then
  leave_token()
end
record(history_limit, 'fire', node, #fired_ids, fired_ids)
return answers
