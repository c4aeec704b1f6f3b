-- Free the owner's place of a lock, or in its line.
-- KEYS lock held line waits
-- ARGV now_us owner
-- Returns 1 if it held the lock, else nothing
-- include time turn
local owner = ARGV[2]
local ends = tonumber(redis.call('ZSCORE', held, owner))
redis.call('ZREM', held, owner)
redis.call('HDEL', lock, 'o:' .. owner)
redis.call('ZREM', line, owner)
redis.call('ZREM', waits, owner)
call_next()
return ends and ends > now
