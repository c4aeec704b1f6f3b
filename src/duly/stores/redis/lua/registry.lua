-- The nodes whose beat has not run out, and the queues; those that ran out are taken off.
-- KEYS nodes queues
-- ARGV now_us
-- Returns {now, flat list of node, record, until, queues}
-- include time
local alive = {}
local all = redis.call('HGETALL', nodes)
for i = 1, #all, 2 do
  local until_text, beat = string.match(all[i + 1], '^(%d+) (.*)$')
  if tonumber(until_text) > now then
    alive[#alive + 1] = all[i]
    alive[#alive + 1] = beat
    alive[#alive + 1] = until_text
  else
    redis.call('HDEL', nodes, all[i])
  end
end
return { string.format('%.0f', now), alive, redis.call('SMEMBERS', queues) }
