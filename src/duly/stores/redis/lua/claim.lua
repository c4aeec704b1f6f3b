-- Lease jobs to a node under a new fence: ended leases of others first, then due jobs; a repeat of (node, n) returns
-- what of that batch is still held.
-- KEYS jobs pending leased running attempts control claims ticks wake history meta
-- ARGV now_us node n limit lease shortest history server ('-': which one is kept from us, '': not known at this moment)
-- Returns {fence, now, wait_us (-1: none), looks (1: one is due, 2: one is due when the wait is over), gap, backwards ms, ids, values, counts, befores, moved (another server
-- process answers than before), dues (of those that nobody held, which are the last)}; counts is a flat list of index, "attempts crashes unfit_since"; befores of index, "fence started node"
-- ('' if nobody held it before), cancel asked; started is 2 if a mark may have been lost with the former server
-- include time wake stamp tables history
local node, n, limit, lease, shortest = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local history_limit = tonumber(ARGV[7])

if lease <= 0 then -- ended leases would be taken over for ever
  return redis.error_reply('DULYLEASE a lease of ' .. tostring(ARGV[5]) .. ' ms')
end
redis.call('HDEL', claims, '') -- a full store refuses a script whose first write adds
local names = { 'fence', 'seen', 'hold', 'held_at', 'paused', 'limit', 'turn', 'timer_node', 'timer_at', 'server', 'doubt' }
local facts = {}
for i, value in ipairs(redis.call('HMGET', meta, unpack(names))) do
  facts[names[i]] = value
end
local last_n, packed = string.match(redis.call('HGET', claims, 'c:' .. node) or '-1 0 ', '^(-?%d+) %d+ (.*)$')
last_n = tonumber(last_n)
if n < last_n then -- nobody would hear of what it took
  return redis.error_reply('DULYSTALE claim ' .. n .. ' of a node that has since sent ' .. last_n)
end
local hold, backwards, changes = stamp(facts, lease, shortest)
local function change(name, value)
  changes[#changes + 1] = name
  changes[#changes + 1] = value
end
-- Another process of the server than before: a failover, or a restart, which may have forgotten that a run has started.
local server, doubt, moved = ARGV[8], tonumber(facts.doubt or nil) or 0, 0
if server == '' then
  doubt = math.huge
elseif server ~= '-' and server ~= facts.server then
  if facts.server then
    moved, doubt = 1, tonumber(facts.fence or nil) or 0
    change('doubt', string.format('%.0f', doubt))
    change('moved_at', string.format('%.0f', now))
  end
  change('server', server)
end
local paused = facts.paused == '1'
local cap = tonumber(facts.limit or nil)
local ids, befores, counts, values, dues, replayed = {}, {}, {}, {}, {}, false
local fence

-- The same batch again, as far as it is still held: its holder has had nothing of the leases yet.
local function replay(packed)
  local old = cmsgpack.unpack(packed)
  fence = old[1]
  if #old[2] == 0 then
    return
  end
  local running_now = redis.call('HMGET', running, unpack(old[2]))
  local before_of = {}
  for i = 1, #old[3], 3 do
    before_of[old[3][i]] = old[3][i + 1]
  end
  for i, id in ipairs(old[2]) do
    if running_now[i] and string.sub(running_now[i], 1, #fence + 1) == fence .. ' ' then
      ids[#ids + 1] = id
      redis.call('ZADD', leased, now + lease, id)
      local cancel = redis.call('HEXISTS', control, id)
      if before_of[i] or cancel == 1 then
        befores[#befores + 1] = #ids
        befores[#befores + 1] = before_of[i] or ''
        befores[#befores + 1] = cancel
      end
    end
  end
end

-- Ended leases of other nodes; the caller's own are renewed instead, for it evidently lives.
local function take_over()
  while #ids < limit do
    local over = redis.call('ZRANGEBYSCORE', leased, '-inf', now, 'LIMIT', 0, limit - #ids)
    if #over == 0 then
      return
    end
    local holders = redis.call('HMGET', running, unpack(over))
    local scores = {}
    for i, id in ipairs(over) do
      scores[2 * i - 1], scores[2 * i] = now + lease, id
      -- an entry that vanished (eviction) counts as started: an at-most-once job must not run twice
      local held_fence, started, holder = string.match(holders[i] or '0 1 ', '^(%d+) (%d) (.*)$')
      if started == '0' and tonumber(held_fence) <= doubt then
        started = '2'
      end
      if holder ~= node then
        local a, c, u = string.match(redis.call('HGET', attempts, id) or '0 0 0', '^(%d+) (%d+) (%d+)$')
        redis.call('HSET', attempts, id, string.format('%s %d %s', a, c + 1, u))
        ids[#ids + 1] = id
        befores[#befores + 1] = #ids
        befores[#befores + 1] = held_fence .. ' ' .. started .. ' ' .. holder
        befores[#befores + 1] = redis.call('HEXISTS', control, id)
        redis.call('HSET', running, id, fence .. ' ' .. started .. ' ' .. node)
      end
    end
    redis.call('ZADD', leased, unpack(scores))
  end
end

local function take_due()
  local room = limit - #ids
  if cap then
    room = math.min(room, cap - redis.call('ZCARD', leased))
  end
  local turn = (tonumber(facts.turn or nil) or 0) + 1
  change('turn', turn % 8)
  for step = 1, 4 do
    if room <= 0 then
      return
    end
    local line = pending[turn % 8 == 0 and 5 - step or step]
    local due = redis.call('ZRANGEBYSCORE', line, '-inf', now, 'WITHSCORES', 'LIMIT', 0, room)
    local count = #due / 2
    if count > 0 then
      local taken, scores, entries, entry = {}, {}, {}, fence .. ' 0 ' .. node
      local lease_end = string.format('%.0f', now + lease) -- once: a number is written as text for each call
      for i = 1, count do
        local id = due[2 * i - 1]
        ids[#ids + 1] = id
        dues[#dues + 1] = due[2 * i]
        taken[i] = id
        scores[2 * i - 1], scores[2 * i] = lease_end, id
        entries[2 * i - 1], entries[2 * i] = id, entry
      end
      redis.call('ZREM', line, unpack(taken))
      begin_table(running, leased, count)
      redis.call('ZADD', leased, unpack(scores))
      redis.call('HSET', running, unpack(entries))
      end_table(running, leased, count)
      room = room - count
    end
  end
end

if n == last_n then
  replayed = true
  replay(packed)
else
  fence = string.format('%.0f', math.max((tonumber(facts.fence or nil) or 0) + 1, now_us))
  change('fence', fence)
  if not paused then
    if now >= hold then
      take_over()
    end
    take_due()
  end
  redis.call('HSET', claims, 'c:' .. node, string.format('%.0f %.0f ', n, now) .. cmsgpack.pack({ fence, ids, befores }))
end

if #ids > 0 then
  values = redis.call('HMGET', jobs, unpack(ids))
  if redis.call('EXISTS', attempts) == 1 then
    for i, count in ipairs(redis.call('HMGET', attempts, unpack(ids))) do
      if count then
        counts[#counts + 1] = i
        counts[#counts + 1] = count
      end
    end
  end
  for i, value in ipairs(values) do
    if not value then -- a ghost: its body was evicted
      redis.call('ZREM', leased, ids[i])
      redis.call('HDEL', running, ids[i])
    end
  end
end

-- When to claim again: microseconds from now, -1 for never.
local wait_us, looks, gap = -1, 0, 0
local due = earliest_due()
local open = not paused and not (cap and redis.call('ZCARD', leased) >= cap)
local next_ms
if due and open then
  if due <= now then
    wait_us = 0
    leave_token()
  else
    next_ms = due
  end
end
local lease_head = tonumber(redis.call('ZRANGE', leased, 0, 0, 'WITHSCORES')[2])
if lease_head and not paused then
  if lease_head <= now and now < hold then
    gap = 1
  end
  local moment = math.max(lease_head, hold)
  next_ms = math.min(next_ms or moment, moment)
end
local look = tonumber(redis.call('ZRANGE', ticks, 0, 0, 'WITHSCORES')[2])
if look then
  if look <= now then
    looks = 1
  else
    next_ms = math.min(next_ms or look, look)
  end
end

-- One idle node keeps the exact timer, the others sleep a little longer.
local timer_at = tonumber(facts.timer_at or nil)
if #ids < limit and next_ms then
  if timer_at and facts.timer_node ~= node and now < timer_at and timer_at <= next_ms then
    next_ms = next_ms + 50
  else
    change('timer_node', node)
    change('timer_at', string.format('%.0f', next_ms))
  end
elseif #ids >= limit and facts.timer_node == node and timer_at then
  redis.call('HDEL', meta, 'timer_node', 'timer_at')
  leave_token()
end
redis.call('HSET', meta, unpack(changes))
if next_ms and wait_us ~= 0 then
  wait_us = math.max(0, next_ms * 1000 - now_us)
  if look == next_ms then
    looks = 2
  end
end
if not replayed then
  record(history_limit, 'claim', node, #ids, ids)
end
return { fence, string.format('%.0f', now), string.format('%.0f', wait_us), looks, gap, backwards, ids, values, counts, befores, moved,
  table.concat(dues, ' ') }
