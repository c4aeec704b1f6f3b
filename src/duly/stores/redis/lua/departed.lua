-- A batch has arrived: it is gone from here.
-- KEYS jobs leased running attempts control errors progress unique moving meta
-- ARGV now_us n
-- Returns the ids of jobs that were asked to be cancelled on the way
-- include time record unique forget
local facts = redis.call('HMGET', meta, 'move_n', 'move_to')
if facts[1] ~= ARGV[2] or not facts[2] then
  return {}
end
local asked, ids = {}, {}
for _, field in ipairs(redis.call('HKEYS', moving)) do
  if string.sub(field, 1, 2) == 'j:' then
    local id = string.sub(field, 3)
    local value = redis.call('HGET', jobs, id)
    if value then
      ids[#ids + 1] = id
      local _, _, key = job_facts(value)
      if redis.call('HEXISTS', control, id) == 1 then
        asked[#asked + 1] = id
      end
      redis.call('ZREM', leased, id)
      redis.call('HDEL', running, id)
      redis.call('HDEL', jobs, id)
      if key ~= '' then
        local hold = redis.call('HGET', unique, key)
        if hold and string.match(hold, '^%a+ %d+ (.*)$') == id then
          redis.call('HDEL', unique, key)
        end
      end
    end
  end
end
for first = 1, #ids, 1000 do
  drop_companions({ unpack(ids, first, math.min(first + 999, #ids)) })
end
redis.call('DEL', moving)
redis.call('HDEL', meta, 'move_to')
return asked
