-- One step of removing pending and dead jobs pushed up to a moment, or only the dead that died up to it.
-- KEYS jobs pending leased attempts control errors progress dead unique
-- ARGV now_us cursor until ('' for now) limit dead_only, then ids (if any: only those)
-- Returns {removed, next cursor ('0': over), until}
-- include time state record unique forget
local cursor, until_ms, limit = ARGV[2], tonumber(ARGV[3]) or now, tonumber(ARGV[4])
local dead_only = ARGV[5] == '1'
local removed = 0

local function remove(id, value)
  local pushed = struct.unpack('>I6', value)
  if dead_only then
    local died = tonumber(redis.call('ZSCORE', dead, id) or nil)
    if not died or died > until_ms then
      return
    end
  elseif pushed > until_ms or redis.call('ZSCORE', leased, id) then
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
elseif dead_only then -- the line of the dead is walked, however many jobs wait
  local died = redis.call('ZRANGEBYSCORE', dead, '-inf', until_ms, 'LIMIT', 0, limit)
  for _, id in ipairs(died) do
    local value = redis.call('HGET', jobs, id)
    if value then
      remove(id, value)
    else
      redis.call('ZREM', dead, id)
    end
  end
  next_cursor = #died == limit and '1' or '0'
else
  local page = redis.call('HSCAN', jobs, cursor, 'COUNT', limit)
  next_cursor = page[1]
  for i = 1, #page[2], 2 do
    remove(page[2][i], page[2][i + 1])
  end
end
return { removed, next_cursor, string.format('%.0f', until_ms) }
