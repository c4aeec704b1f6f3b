-- A batch has arrived: it is gone from here, unless some of it were asked to be cancelled on the way: then nothing is written.
-- KEYS jobs leased running attempts control errors progress unique moving meta
-- ARGV now_us n, then the ids that have been cancelled where they arrived
-- Returns the ids of jobs that are to be cancelled there first
-- include time record unique forget
local facts = redis.call('HMGET', meta, 'move_n', 'move_to')
if facts[1] ~= ARGV[2] or not facts[2] then
  return {}
end
local asked, ids, told = {}, {}, {}
for i = 3, #ARGV do
  told[ARGV[i]] = true
end
local batch = redis.call('HKEYS', moving)
for _, field in ipairs(batch) do
  local id = string.sub(field, 3)
  if string.sub(field, 1, 2) == 'j:' and not told[id] and redis.call('HEXISTS', control, id) == 1 then
    asked[#asked + 1] = id
  end
end
if #asked > 0 then
  return asked
end
for _, field in ipairs(batch) do
  if string.sub(field, 1, 2) == 'j:' then
    local id = string.sub(field, 3)
    local value = redis.call('HGET', jobs, id)
    if value then
      ids[#ids + 1] = id
      local _, _, key = job_facts(value)
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
return {}
