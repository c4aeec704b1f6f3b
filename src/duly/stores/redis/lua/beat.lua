-- Publish a node until its time runs out, or take it off; name the queues it serves.
-- KEYS nodes queues
-- ARGV now_us node record ttl (0: it leaves), then queues
-- Returns 1
-- include time
local node, ttl = ARGV[2], tonumber(ARGV[4])
if ttl <= 0 then
  redis.call('HDEL', nodes, node)
elseif node ~= '' then
  redis.call('HSET', nodes, node, string.format('%.0f ', now + ttl) .. ARGV[3])
end
if #ARGV > 4 then
  redis.call('SADD', queues, unpack(ARGV, 5))
end
return 1
