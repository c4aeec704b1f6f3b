-- Until when something that outlives its job may be kept here: keys held for a time, results.
-- KEYS meta
-- ARGV now_us
-- Returns the moment (ms), 0 for never
return tonumber(redis.call('HGET', meta, 'lasts')) or 0
