-- Advance marks, enqueue the jobs of the ticks and record what was skipped: one step per schedule, if (revision, mark)
-- are as they were read.
-- KEYS jobs pending leased dead ended unique schedules ticks ticklog wake history
-- ARGV now_us node history, then per schedule one packed {id, revision, mark, new mark, next, look, counted, jobs, nominals, skipped, late, pause, waits}
-- Returns fired or stale per schedule
-- include time state record unique wake keep history schedule ticklog
local node, history_limit = ARGV[2], tonumber(ARGV[3])
local answers, rouse, fired_ids = {}, false, {}

local function fire(firing)
  local id, revision, mark, new_mark, following, look, counted, items, nominals, skipped, late, pause, waits = unpack(firing)
  local value = redis.call('HGET', schedules, id)
  local s = value and read_schedule(value)
  if not s or s.paused or s.revision ~= revision or s.mark ~= mark then
    return 'stale'
  end
  if waits and #s.live == 0 then
    return 'stale' -- the run it waits for has ended since, and has asked for a look
  end
  local live = counted and s.live or {}
  if #items > 0 then
    local _, _, wake_up = keep_jobs(items)
    rouse = rouse or wake_up
    for i, item in ipairs(items) do
      live[#live + 1] = item[1]
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
  write_schedule(id, s)
  if look >= 0 and not s.paused then
    redis.call('ZADD', ticks, look, id)
  else
    redis.call('ZREM', ticks, id)
  end
  return 'fired'
end

for i = 4, #ARGV do
  answers[#answers + 1] = fire(cmsgpack.unpack(ARGV[i]))
end
if rouse then
  leave_token()
end
record(history_limit, 'fire', node, #fired_ids, fired_ids)
return answers
