-- Write what became of runs, if their leases are still held, with their children, in one step; a repeat of (node, n)
-- writes nothing.
-- KEYS jobs pending leased running attempts control errors progress dead ended unique claims schedules ticks wake history meta
-- ARGV now_us node n remember dead_count dead_ms history runs: packed, per run: id, fence, change
-- Further KEYS are result keys, in the order of the runs that have a result. A change is '' for a plain end, else packed
-- {verb, delay, attempts, crashes, unfit_since, priority, named, unique, schedule, error, result, result ms, children, outcome, epoch}
-- Returns one letter per run: a(pplied), r(epeated), t(aken), c(ancel asked), m(ap of shards has changed: the children may belong elsewhere)
-- include time state record unique wake forget lasting tables keep history held schedule
local node, n, remember = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local dead_count, dead_ms, history_limit = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

redis.call('HDEL', claims, '') -- a full store refuses a script whose first write adds
local last_n, last_letters = string.match(redis.call('HGET', claims, 's:' .. node) or '0 0 ', '^(%d+) %d+ (%a*)$')
last_n = tonumber(last_n)
if last_n == n then
  return (string.gsub(last_letters, 'a', 'r'))
end

local switches = redis.call('HMGET', meta, 'limit', 'epoch')
local cap, epoch = tonumber(switches[1] or nil), tonumber(switches[2] or '0')
local blocked = cap and redis.call('ZCARD', leased) >= cap
local runs, ids = cmsgpack.unpack(ARGV[8]), {}
for i = 1, #runs, 3 do
  ids[#ids + 1] = runs[i]
end
local entries = #ids > 0 and redis.call('HMGET', running, unpack(ids)) or {}
local letters, applied, ended_ids, result_at, rouse = {}, {}, {}, KEYS_NAMED, false
local born = {}
local done = {} -- the same id twice in one call: the second is not held any more

local function keep_result(id, result, ms)
  redis.call('SET', KEYS[result_at], result, 'PX', ms)
  note_lasting(now + ms)
  redis.pcall('PUBLISH', KEYS[result_at], id) -- forbidden to some users: those who wait look for themselves
end

local function bury(id, change)
  redis.call('ZADD', dead, now, id)
  redis.call('HSET', attempts, id, string.format('%.0f %.0f 0', change[3], change[4]))
  redis.call('HSET', errors, id, change[10])
  if redis.call('EXISTS', control) == 1 then
    redis.call('HDEL', control, id)
  end
end

local function again(id, change)
  local due = due_after(change[2])
  local head = earliest_due()
  redis.call('ZADD', pending[change[6] + 1], due, id)
  if change[3] > 0 or change[4] > 0 or change[5] > 0 then
    redis.call('HSET', attempts, id, string.format('%.0f %.0f %.0f', change[3], change[4], change[5]))
  else
    redis.call('HDEL', attempts, id)
  end
  if change[10] ~= '' then
    redis.call('HSET', errors, id, change[10])
  end
  rouse = rouse or due <= now or not head or due < head
end

-- Everything but the plain end; the lease has been checked.
local function apply(id, change)
  local verb, named, key, schedule, result, children = change[1], change[7], change[8], change[9], change[11], change[13]
  if verb == 'again' then
    again(id, change)
  else
    if verb == 'dead' then
      bury(id, change)
    else
      redis.call('HDEL', jobs, id)
      drop_companions({ id })
      if named then
        remember_id(id, remember)
      end
    end
    if key ~= '' then
      release_unique(key, id)
    end
    if result ~= '' then
      keep_result(id, result, change[12])
    end
    if schedule ~= '' then
      rouse = end_of_run(schedule, id, change[14]) or rouse
    end
  end
  for _, child in ipairs(children) do
    born[#born + 1] = child
  end
end

for k, id in ipairs(ids) do
  local fence, change = runs[3 * k - 1], runs[3 * k]
  local unpacked = change ~= '' and cmsgpack.unpack(change) or nil
  if unpacked and unpacked[11] ~= '' then
    result_at = result_at + 1
  end
  if done[id] or not holds(entries[k], fence) then
    letters[k] = 't'
  elseif unpacked and unpacked[1] == 'again' and redis.call('HEXISTS', control, id) == 1 then
    letters[k] = 'c'
  elseif unpacked and unpacked[15] < epoch then
    letters[k] = 'm'
  else
    letters[k] = 'a'
    done[id] = true
    applied[#applied + 1] = id
    if unpacked then
      redis.call('ZREM', leased, id)
      redis.call('HDEL', running, id)
      apply(id, unpacked)
    else
      ended_ids[#ended_ids + 1] = id
    end
  end
end

-- Plain ends are written together.
if #ended_ids > 0 then
  redis.call('ZREM', leased, unpack(ended_ids))
  redis.call('HDEL', running, unpack(ended_ids))
  redis.call('HDEL', jobs, unpack(ended_ids))
  drop_companions(ended_ids)
end

-- After all changes: a child may take the place of a job that ended.
for first = 1, #born, 1000 do
  local _, _, wake_up = keep_jobs({ unpack(born, first, math.min(first + 999, #born)) })
  rouse = rouse or wake_up
end

-- Dead jobs are bounded by count and age; what is trimmed takes its companions along.
local function trim_dead()
  local old = redis.call('ZRANGEBYSCORE', dead, '-inf', now - dead_ms, 'LIMIT', 0, 1000)
  local surplus = redis.call('ZCARD', dead) - #old - dead_count
  if surplus > 0 then
    for _, id in ipairs(redis.call('ZRANGE', dead, #old, #old + math.min(surplus, 1000) - 1)) do
      old[#old + 1] = id
    end
  end
  if #old > 0 then
    redis.call('ZREM', dead, unpack(old))
    redis.call('HDEL', jobs, unpack(old))
    drop_companions(old)
  end
end
if redis.call('EXISTS', dead) == 1 then
  trim_dead()
end
forget_ended()

if not rouse and blocked then
  local due = earliest_due()
  rouse = due ~= nil and due <= now
end
if rouse then
  leave_token()
end
letters = table.concat(letters)
if n > last_n then -- a late copy of an old call: fences protect, and the last call stays known
  redis.call('HSET', claims, 's:' .. node, string.format('%.0f %.0f ', n, now) .. letters)
end
record(history_limit, 'settle', node, #applied, applied)
return letters
