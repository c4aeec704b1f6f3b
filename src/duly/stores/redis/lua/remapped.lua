-- The shard learns of a later map: what is pushed and put by an earlier one is refused from now on.
-- KEYS meta
-- ARGV now_us epoch
-- Returns 1
if tonumber(redis.call('HGET', meta, 'epoch') or '0') < tonumber(ARGV[2]) then
  redis.call('HSET', meta, 'epoch', ARGV[2])
end
return 1
