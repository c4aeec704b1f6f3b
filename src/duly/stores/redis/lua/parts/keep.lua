-- Enqueue: the one way in which jobs come to be kept, for pushes, children and ticks.

-- An item is {id, due, options, body}: due '' is now, '+n' is n ms from now, 'n' is a moment; options '' is a
-- plain job, else packed {priority, named, replace, unique key, scope, ms}.
local function due_of(text)
  if text == '' then
    return now
  end
  local value = tonumber(text)
  if string.sub(text, 1, 1) == '+' then
    return due_after(value)
  end
  return value
end

local function replace_pending(id, due, priority, named, key, body)
  local old_named, old_priority, old_key = job_facts(redis.call('HGET', jobs, id))
  if old_key ~= '' and old_key ~= key then
    release_unique(old_key, id)
  end
  redis.call('HSET', jobs, id, job_value(named or old_named, priority, key, body))
  redis.call('ZREM', pending[old_priority + 1], id)
  redis.call('ZADD', pending[priority + 1], due, id)
end

-- One job with an id or a unique key of its own: answers state, id, and whether something was written.
local function keep_special(id, due, options, body)
  local priority, named, replace, key, scope, ms = unpack(cmsgpack.unpack(options))
  local state
  if redis.call('HEXISTS', jobs, id) == 1 then
    state = state_of(id)
    if state ~= 'pending' or not replace then
      return state, id, false
    end
  elseif named then
    local until_ms = tonumber(redis.call('ZSCORE', ended, id) or nil)
    if until_ms and until_ms > now then
      return 'ended', id, false
    end
  end
  if key ~= '' then
    local holder, holder_state = unique_holder(key)
    if holder and holder ~= id then
      return holder_state, holder, false
    end
  end
  if state then
    replace_pending(id, due, priority, named, key, body)
  else
    redis.call('HSET', jobs, id, job_value(named, priority, key, body))
    redis.call('ZADD', pending[priority + 1], due, id)
    if named then
      redis.call('ZREM', ended, id)
    end
  end
  if key ~= '' then
    redis.call('HSET', unique, key, string.format('%s %.0f %s', scope, now + ms, id))
    if scope == 'time' then
      note_lasting(now + ms)
    end
  end
  return state or 'created', id, true
end

-- Keeps a list of items; answers a flat list of state, id per item (nil when all were created), the number written and
-- whether a sleeper has to know. Plain jobs are written together.
local function keep_jobs(items)
  local answers, all_created, written = {}, true, 0
  local head, earliest = nil, nil
  local ids, values, scores, fresh = {}, {}, {}, {}
  for i, item in ipairs(items) do
    ids[i] = item[1]
    if not head and item[2] ~= '' then
      head = earliest_due() or math.huge -- asked for only where a job may not be due at once
    end
  end
  local known = redis.call('HMGET', jobs, unpack(ids))
  local prefix, at_once = struct.pack('>I6BB', now, 2, 0), string.format('%.0f', now)
  local function write_plain()
    if #values > 0 then
      begin_table(jobs, pending[2], #values / 2)
      redis.call('HSET', jobs, unpack(values))
      redis.call('ZADD', pending[2], unpack(scores))
      end_table(jobs, pending[2], #values / 2)
      values, scores = {}, {}
    end
  end
  for i, item in ipairs(items) do
    local id, due = item[1], due_of(item[2])
    local state, answer, wrote
    if item[3] == '' then
      wrote = not known[i] and not fresh[id]
      state, answer = wrote and 'created' or (fresh[id] and 'pending' or state_of(id)), id
      if wrote then
        fresh[id] = true
        values[#values + 1] = id
        values[#values + 1] = prefix .. item[4]
        scores[#scores + 1] = due == now and at_once or due
        scores[#scores + 1] = id
      end
    else
      write_plain() -- a unique key may be held by one of them
      state, answer, wrote = keep_special(id, due, item[3], item[4])
      fresh[id] = fresh[id] or wrote
    end
    if wrote then
      written = written + 1
      if not earliest or due < earliest then
        earliest = due
      end
    end
    all_created = all_created and state == 'created'
    answers[2 * i - 1], answers[2 * i] = state, answer
  end
  write_plain()
  local rouse = earliest ~= nil and (earliest <= now or not head or earliest < head)
  return (not all_created) and answers or nil, written, rouse
end
