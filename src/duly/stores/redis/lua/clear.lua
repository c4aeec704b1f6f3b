-- One step of removing pending and dead jobs pushed up to a moment.
-- KEYS jobs pending leased attempts control errors progress dead unique
-- ARGV now_us cursor until ('' for now) limit dead_only, then ids (if any: only those)
-- Returns {removed, next cursor ('0': over), until}
-- include time state record unique forget
local cursor, until_ms, limit = ARGV[2], tonumber(ARGV[3]) or now, tonumber(ARGV[4])
local dead_only = ARGV[5] == '1'
local removed = 0

local function remove(id, value)
  local pushed = struct.unpack('>I6', value)
  if pushed > until_ms or redis.call('ZSCORE', leased, id) then
    return
  end
  if dead_only and not redis.call('ZSCORE', dead, id) then
    return
  end
  drop_job(id, value)
  removed = removed + 1
end

local next_cursor = '0'
if #ARGV > 5 then
  for i = 6, #ARGV do
    local value = redis.call('HGET', jobs, ARGV[i])
    if value then
      remove(ARGV[i], value)
    end
  end
else
  local page = redis.call('HSCAN', jobs, cursor, 'COUNT', limit)
  next_cursor = page[1]
  for i = 1, #page[2], 2 do
    remove(page[2][i], page[2][i + 1])
  end
end
return { removed, next_cursor, string.format('%.0f', until_ms) }
