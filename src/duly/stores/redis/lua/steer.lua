-- Remove, pause or resume a schedule; removing it removes its jobs that were not claimed yet.
-- KEYS jobs pending leased attempts control errors progress dead unique schedules ticks wake
-- ARGV now_us id remove | pause | resume note
-- Returns 1, or 0 if there is none
-- include time wake state record unique forget schedule
local id, what, note = ARGV[2], ARGV[3], ARGV[4]
local value = redis.call('HGET', schedules, id)
if not value then
  return 0
end
local s = read_schedule(value)
if what == 'pause' then
  s.paused = note
  write_schedule(id, s)
  redis.call('ZREM', ticks, id)
elseif what == 'resume' then
  if s.paused then
    s.paused, s.mark, s.next = false, now, 0
    write_schedule(id, s)
    redis.call('ZADD', ticks, now, id)
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
