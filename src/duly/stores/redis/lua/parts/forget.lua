-- The companions of ids that leave the store, or start afresh; hashes that do not exist cost one look each.
local function drop_companions(ids)
  for _, companion in ipairs({ attempts, control, errors, progress }) do
    if redis.call('EXISTS', companion) == 1 then
      redis.call('HDEL', companion, unpack(ids))
    end
  end
end

-- A job that is pending or dead leaves the store with all it had; answers whether the user gave its id.
local function drop_job(id, value)
  local named, priority, key = job_facts(value)
  redis.call('ZREM', pending[priority + 1], id)
  redis.call('ZREM', dead, id)
  redis.call('HDEL', jobs, id)
  drop_companions({ id })
  if key ~= '' then
    release_unique(key, id)
  end
  return named
end

-- A user-given id stays known for a time after its end.
local function remember_id(id, remember)
  if remember > 0 then
    redis.call('ZADD', ended, now + remember, id)
  end
end

-- Ids whose time is over for an hour are forgotten, a few at each call: a clock that goes back a little finds them.
local function forget_ended()
  local over = redis.call('ZRANGEBYSCORE', ended, '-inf', now - 3600000, 'LIMIT', 0, 1000)
  if #over > 0 then
    redis.call('ZREM', ended, unpack(over))
  end
end
