-- One bounded step of the repair of what an eviction or a failover broke; without repair, only a look at it.
-- KEYS jobs pending leased running attempts control errors progress dead unique clients claims schedules ticks wake
-- ARGV now_us room cursor limit age repair; room is the key that this step walks through
-- Returns {next cursor ('0': this room is done), number found}
-- include time wake state record unique
local room, cursor, limit, age = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local repair = ARGV[6] == '1'
local found = 0

-- Something to be mended, by one command.
local function mend(...)
  found = found + 1
  if repair then
    redis.call(...)
  end
end

local function rouse()
  if repair then
    leave_token()
  end
end

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
    -- one that was held is taken over, so that a started run at most once does not start again
    local held = redis.call('HEXISTS', running, id) == 1
    mend('ZADD', held and leased or pending[priority + 1], now, id)
    rouse()
  end
  for i = 2, #places do -- the first in the order leased, dead, pending stands
    mend('ZREM', places[i], id)
  end
end

local function gone(id)
  return redis.call('HEXISTS', jobs, id) == 0
end

-- One that is in no place is held still: its lease is to be put back, see above.
local function is_elsewhere(id)
  for p = 1, 4 do
    if redis.call('ZSCORE', pending[p], id) then
      return true
    end
  end
  return redis.call('ZSCORE', dead, id)
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
      mend('ZREM', lines[room], page[2][i])
    end
  end
elseif companions[room] then
  page = redis.call('HSCAN', companions[room], cursor, 'COUNT', limit)
  for i = 1, #page[2], 2 do
    local id = page[2][i]
    if gone(id) or (room == 'running' and is_elsewhere(id)) then
      mend('HDEL', companions[room], id)
    end
  end
elseif room == 'unique' then
  page = redis.call('HSCAN', unique, cursor, 'COUNT', limit)
  for i = 1, #page[2], 2 do
    if not unique_holder(page[2][i]) then
      mend('HDEL', unique, page[2][i])
    end
  end
elseif room == 'clients' or room == 'claims' then
  local hash = room == 'clients' and clients or claims
  page = redis.call('HSCAN', hash, cursor, 'COUNT', limit)
  for i = 1, #page[2], 2 do
    local at = tonumber(string.match(page[2][i + 1], '^%d+ (%d+) '))
    if not at or at < now - age then
      mend('HDEL', hash, page[2][i])
    end
  end
elseif room == 'schedules' then
  -- A schedule without a look would be silent for ever; planning it again is harmless.
  page = redis.call('HSCAN', schedules, cursor, 'COUNT', limit)
  for i = 1, #page[2], 2 do
    local length = struct.unpack('>I2', page[2][i + 1])
    local state = cmsgpack.unpack(string.sub(page[2][i + 1], 3, 2 + length))
    if not state[7] and state[4] ~= -1 and not redis.call('ZSCORE', ticks, page[2][i]) then
      mend('ZADD', ticks, now, page[2][i])
      rouse()
    end
  end
elseif room == 'ticks' then
  page = redis.call('ZSCAN', ticks, cursor, 'COUNT', limit)
  for i = 1, #page[2], 2 do
    if redis.call('HEXISTS', schedules, page[2][i]) == 0 then
      mend('ZREM', ticks, page[2][i])
    end
  end
else
  return redis.error_reply('DULYROOM no room ' .. room .. ' to reconcile')
end
return { page[1], found }
