-- A schedule is 2 bytes length, the packed state, the definition. State: {revision, mark, anchor, next (-1: none),
-- app, buffer, paused (false or note), live ids, fired, skipped {why, count, …}, last, late, ended, outcome, failures};
-- the last four are absent in states written before they were.
local function read_schedule(value)
  local length = struct.unpack('>I2', value)
  local s = cmsgpack.unpack(string.sub(value, 3, 2 + length))
  return {
    revision = s[1], mark = s[2], anchor = s[3], next = s[4], app = s[5], buffer = s[6], paused = s[7],
    live = s[8], fired = s[9], skipped = s[10], last = s[11],
    late = s[12] or 0, ended = s[13] or 0, outcome = s[14] or '', failures = s[15] or 0, definition = string.sub(value, 3 + length),
  }
end

local function schedule_value(s)
  local state = cmsgpack.pack({
    s.revision, s.mark, s.anchor, s.next, s.app, s.buffer, s.paused, s.live, s.fired, s.skipped, s.last, s.late,
    s.ended, s.outcome, s.failures,
  })
  return struct.pack('>I2', #state) .. state .. s.definition
end

local function write_schedule(id, s)
  redis.call('HSET', schedules, id, schedule_value(s))
end

-- Add to the count of skipped ticks, kept as a flat list of why, count.
local function count_skipped(s, why, count)
  for i = 1, #s.skipped, 2 do
    if s.skipped[i] == why then
      s.skipped[i + 1] = s.skipped[i + 1] + count
      return
    end
  end
  s.skipped[#s.skipped + 1] = why
  s.skipped[#s.skipped + 1] = count
end

-- A run has ended: it no longer lives, its end is noted (outcome: 'ended', or 'dead: ' and why), and a schedule that waited for
-- it is looked at again.
local function end_of_run(id, job, outcome)
  local value = redis.call('HGET', schedules, id)
  if not value then
    return false
  end
  local s = read_schedule(value)
  for i, live in ipairs(s.live) do
    if live == job then
      table.remove(s.live, i)
      break
    end
  end
  s.ended, s.outcome, s.failures = now, outcome, outcome == 'ended' and 0 or s.failures + 1
  write_schedule(id, s)
  if s.buffer and not s.paused then
    redis.call('ZADD', ticks, now, id)
    return true
  end
  return false
end
