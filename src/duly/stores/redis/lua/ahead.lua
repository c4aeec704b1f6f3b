-- How many pending jobs come before one that is due.
-- KEYS jobs pending
-- ARGV now_us id
-- Returns the number, or -1 if it is not pending
-- include time record
local id = ARGV[2]
local value = redis.call('HGET', jobs, id)
if not value then
  return -1
end
local _, priority = job_facts(value)
local count = redis.call('ZRANK', pending[priority + 1], id)
if not count then
  return -1
end
for p = 1, priority do
  count = count + redis.call('ZCOUNT', pending[p], '-inf', now)
end
return count
