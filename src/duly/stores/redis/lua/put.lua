-- Create or update a schedule; an equal put changes nothing.
-- KEYS jobs schedules ticks ticklog wake meta
-- ARGV now_us id definition mark ('' for now) app buffer revision ('' for any) history epoch
-- Returns {created | same | updated | conflict | due, revision}
-- include time wake schedule ticklog map
local id, definition, mark, app, buffer, revision = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6] == '1', tonumber(ARGV[7])
local value = redis.call('HGET', schedules, id)
if not value then
  local stale = stale_map(ARGV[9])
  if stale then
    return stale
  end
  if revision then
    return { 'conflict', 0 } -- removed since it was read, or moved to another shard
  end
  write_schedule(id, {
    revision = 1, mark = math.min(mark or now, now), anchor = now, next = 0, app = app, buffer = buffer, paused = false,
    live = {}, fired = 0, skipped = {}, last = 0, late = 0, ended = 0, outcome = '', failures = 0,
    definition = definition,
  })
  redis.call('ZADD', ticks, now, id)
  log_tick(tonumber(ARGV[8]), id, math.min(mark or now, now), 'created', '', 1)
  leave_token()
  return { 'created', 1 }
end
local s = read_schedule(value)
if s.definition == definition and s.app == app then
  return { 'same', s.revision }
end
if revision and revision ~= s.revision then
  return { 'conflict', s.revision }
end
local held_back = s.buffer and #s.live > 0
local is_due = s.next >= 0 and s.next <= now and not s.paused
if is_due and not held_back then
  return { 'due', s.revision } -- the caller fires it first, then repeats
end
if is_due and s.next > 0 then
  count_skipped(s, 'edited', 1)
end
s.definition, s.app, s.buffer, s.revision, s.mark, s.next = definition, app, buffer, s.revision + 1, math.max(s.mark, now), 0
write_schedule(id, s)
log_tick(tonumber(ARGV[8]), id, s.mark, 'updated', '', 1)
if not s.paused then
  redis.call('ZADD', ticks, now, id)
  leave_token()
end
return { 'updated', s.revision }
