-- One page of the jobs in a state, by priority and time.
-- KEYS jobs pending leased running attempts control errors progress dead
-- ARGV now_us state offset limit
-- Returns {offset of the next page or -1, records as in get.lua}
-- include time record look
local state, offset, limit = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local lines = state == 'pending' and pending or { state == 'leased' and leased or dead }
local records, skip, seen = {}, offset, 0
for _, line in ipairs(lines) do
  local size = redis.call('ZCARD', line)
  if skip >= size then
    skip = skip - size
  else
    for _, id in ipairs(redis.call('ZRANGE', line, skip, skip + limit - seen - 1)) do
      seen = seen + 1
      local found = look_at(id)
      if found then
        records[#records + 1] = found
      end
    end
    skip = 0
  end
  if seen >= limit then
    return { offset + seen, records }
  end
end
return { -1, records }
