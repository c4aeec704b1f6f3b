-- Add to what was counted of runs in a minute, and forget another minute.
-- KEYS measures old
-- ARGV ttl (ms), most (tasks), others (the name for those beyond), then task, its counts (a packed map of numbers)
-- Returns 1
local ttl, most, others = ARGV[1], tonumber(ARGV[2]), ARGV[3]

for i = 4, #ARGV, 2 do
  local task, more = ARGV[i], cmsgpack.unpack(ARGV[i + 1])
  local known = redis.call('HGET', measures, task)
  if not known and redis.call('HLEN', measures) >= most then
    task, known = others, redis.call('HGET', measures, others)
  end
  local counts = known and cmsgpack.unpack(known) or {}
  for counter, n in pairs(more) do
    counts[counter] = (counts[counter] or 0) + n
  end
  redis.call('HSET', measures, task, cmsgpack.pack(counts))
end
redis.call('PEXPIRE', measures, ttl)
redis.call('UNLINK', old)
return 1
