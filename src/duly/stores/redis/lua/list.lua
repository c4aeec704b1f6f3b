-- One page of the jobs in a state, by priority and time.
-- KEYS jobs pending leased running attempts control errors progress dead
-- ARGV now_us state offset limit
-- Returns {offset of the next page or -1, records as in get.lua}
-- include time
local state, offset, limit = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local lines = state == 'pending' and pending or { state == 'leased' and leased or dead }
local records, skip, seen = {}, offset, 0

-- The records of ids that stand in a line; all fields of one kind in one call.
local function look_at_all(ids, scores)
  local function fields(key)
    return redis.call('HMGET', key, unpack(ids))
  end
  local values, counts, asked, faults, reports = fields(jobs), fields(attempts), fields(control), fields(errors), fields(progress)
  local holders = state == 'leased' and fields(running) or {}
  for i, id in ipairs(ids) do
    if values[i] then
      records[#records + 1] = {
        id, state, scores[i], values[i], counts[i] or '', holders[i] or '', asked[i] and 1 or 0, faults[i] or '', reports[i] or '',
      }
    end
  end
end

for _, line in ipairs(lines) do
  local size = redis.call('ZCARD', line)
  if skip >= size then
    skip = skip - size
  else
    local found = redis.call('ZRANGE', line, skip, skip + limit - seen - 1, 'WITHSCORES')
    local ids, scores = {}, {}
    for i = 1, #found, 2 do
      ids[#ids + 1], scores[#scores + 1] = found[i], found[i + 1]
    end
    if #ids > 0 then
      look_at_all(ids, scores)
    end
    seen, skip = seen + #ids, 0
  end
  if seen >= limit then
    return { offset + seen, records }
  end
end
return { -1, records }
