-- Remove, pause or resume a schedule; removing it removes its jobs that were not claimed yet.
-- KEYS jobs pending leased attempts control errors progress dead unique schedules ticks ticklog wake
-- ARGV now_us id remove | pause | resume note history
-- Returns 1, or 0 if there is none
-- include time wake state record unique forget schedule ticklog
local id, what, note = ARGV[2], ARGV[3], ARGV[4]
local value = redis.call('HGET', schedules, id)
if not value then
  return 0
end
local s = read_schedule(value)
if what == 'pause' then
  s.paused = note
  write_schedule(id, s)
  log_tick(tonumber(ARGV[5]), id, now, 'paused', note, 1)
  redis.call('ZREM', ticks, id)
elseif what == 'resume' then
  if s.paused then
    s.paused, s.mark, s.next, s.failures = false, math.max(s.mark, now), 0, 0
    write_schedule(id, s)
    redis.call('ZADD', ticks, now, id)
    log_tick(tonumber(ARGV[5]), id, now, 'resumed', '', 1)
    leave_token()
  end
else
  for _, job in ipairs(s.live) do
    local body = redis.call('HGET', jobs, job)
    if body and state_of(job) == 'pending' then
      drop_job(job, body)
    end
  end
  redis.call('HDEL', schedules, id)
  redis.call('ZREM', ticks, id)
end
return 1
