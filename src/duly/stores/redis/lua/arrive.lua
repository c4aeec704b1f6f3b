-- Keep what comes from another shard as it was there; a repeat of (name, n) writes nothing.
-- KEYS jobs pending dead attempts errors progress unique schedules ticks clients wake meta
-- ARGV now_us name n, the number of schedules, then per schedule: id value look; then per job: id state score value counts error unique progress
-- Returns the number written; an id that is here already stays as it is
-- include time record wake lasting
local name, n = ARGV[2], tonumber(ARGV[3])
local last = tonumber(string.match(redis.call('HGET', clients, name) or '-1', '^(-?%d+)'))
if n <= last then
  return 0
end
local written, i = 0, 5
for _ = 1, tonumber(ARGV[4]) do
  local id, value, look = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  i = i + 3
  if redis.call('HSETNX', schedules, id, value) == 1 then
    written = written + 1
    if look ~= '' then
      redis.call('ZADD', ticks, math.min(tonumber(look), now), id)
    end
  end
end
while i <= #ARGV do
  local id, state, score, value, counts, problem, hold, made = unpack(ARGV, i, i + 7)
  i = i + 8
  if redis.call('HSETNX', jobs, id, value) == 1 then
    written = written + 1
    local _, priority, key = job_facts(value)
    redis.call('ZADD', state == 'dead' and dead or pending[priority + 1], score, id)
    if counts ~= '' then
      redis.call('HSET', attempts, id, counts)
    end
    if problem ~= '' then
      redis.call('HSET', errors, id, problem)
    end
    if made ~= '' then
      redis.call('HSET', progress, id, made)
    end
    if hold ~= '' then
      redis.call('HSETNX', unique, key, hold)
      local free_at = string.match(hold, '^time (%d+) ')
      if free_at then
        note_lasting(tonumber(free_at))
      end
    end
  end
end
redis.call('HSET', clients, name, string.format('%.0f %.0f ', n, now) .. cmsgpack.pack(written))
leave_token()
return written
