-- One bounded step of the repair of what an eviction or a failover broke.
-- KEYS jobs pending leased running attempts control errors progress dead unique clients claims schedules ticks wake
-- ARGV now_us room cursor limit age; room is the key that this step walks through
-- Returns {next cursor ('0': this room is done), number found}
-- include time wake state record unique
local room, cursor, limit, age = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local found = 0

-- An id in jobs is in exactly one of pending, leased, dead.
local function check_job(id, value)
  local places = {}
  if redis.call('ZSCORE', leased, id) then
    places[#places + 1] = leased
  end
  if redis.call('ZSCORE', dead, id) then
    places[#places + 1] = dead
  end
  local _, priority = job_facts(value)
  for p = 1, 4 do
    if redis.call('ZSCORE', pending[p], id) then
      places[#places + 1] = pending[p]
    end
  end
  if #places == 0 then
    redis.call('ZADD', pending[priority + 1], now, id)
    leave_token()
    found = found + 1
  end
  for i = 2, #places do -- the first in the order leased, dead, pending stands
    redis.call('ZREM', places[i], id)
    found = found + 1
  end
end

local function gone(id)
  return redis.call('HEXISTS', jobs, id) == 0
end

local companions = { running = running, attempts = attempts, control = control, errors = errors, progress = progress }
local lines = { ['pending:0'] = pending[1], ['pending:1'] = pending[2], ['pending:2'] = pending[3], ['pending:3'] = pending[4], leased = leased, dead = dead }
local page
if room == 'jobs' then
  page = redis.call('HSCAN', jobs, cursor, 'COUNT', limit)
  for i = 1, #page[2], 2 do
    check_job(page[2][i], page[2][i + 1])
  end
elseif lines[room] then
  page = redis.call('ZSCAN', lines[room], cursor, 'COUNT', limit)
  for i = 1, #page[2], 2 do
    if gone(page[2][i]) then
      redis.call('ZREM', lines[room], page[2][i])
      found = found + 1
    end
  end
elseif companions[room] then
  page = redis.call('HSCAN', companions[room], cursor, 'COUNT', limit)
  for i = 1, #page[2], 2 do
    local id = page[2][i]
    if gone(id) or (room == 'running' and not redis.call('ZSCORE', leased, id)) then
      redis.call('HDEL', companions[room], id)
      found = found + 1
    end
  end
elseif room == 'unique' then
  page = redis.call('HSCAN', unique, cursor, 'COUNT', limit)
  for i = 1, #page[2], 2 do
    if not unique_holder(page[2][i]) then
      redis.call('HDEL', unique, page[2][i])
      found = found + 1
    end
  end
elseif room == 'clients' or room == 'claims' then
  local hash = room == 'clients' and clients or claims
  page = redis.call('HSCAN', hash, cursor, 'COUNT', limit)
  for i = 1, #page[2], 2 do
    local at = tonumber(string.match(page[2][i + 1], '^%d+ (%d+) '))
    if not at or at < now - age then
      redis.call('HDEL', hash, page[2][i])
      found = found + 1
    end
  end
elseif room == 'schedules' then
  -- A schedule without a look would be silent for ever; planning it again is harmless.
  page = redis.call('HSCAN', schedules, cursor, 'COUNT', limit)
  for i = 1, #page[2], 2 do
    local length = struct.unpack('>I2', page[2][i + 1])
    local state = cmsgpack.unpack(string.sub(page[2][i + 1], 3, 2 + length))
    if not state[7] and state[4] ~= -1 and not redis.call('ZSCORE', ticks, page[2][i]) then
      redis.call('ZADD', ticks, now, page[2][i])
      leave_token()
      found = found + 1
    end
  end
elseif room == 'ticks' then
  page = redis.call('ZSCAN', ticks, cursor, 'COUNT', limit)
  for i = 1, #page[2], 2 do
    if redis.call('HEXISTS', schedules, page[2][i]) == 0 then
      redis.call('ZREM', ticks, page[2][i])
      found = found + 1
    end
  end
else
  return redis.error_reply('DULYROOM no room ' .. room .. ' to reconcile')
end
return { page[1], found }
