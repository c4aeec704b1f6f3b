-- A unique key's holder is written as "scope until id"; scope is end, start or time. It is verified when asked for.

-- The id that holds the key now and its state, or nil.
local function unique_holder(key)
  local value = redis.call('HGET', unique, key)
  if not value then
    return nil
  end
  local scope, free_at, id = string.match(value, '^(%a+) (%d+) (.*)$')
  local live = redis.call('HEXISTS', jobs, id) == 1
  if scope == 'time' then
    if tonumber(free_at) <= now then
      return nil
    end
    return id, live and state_of(id) or 'ended'
  end
  if not live then
    return nil
  end
  local state = state_of(id)
  if state == 'dead' then
    return nil
  end
  if scope == 'start' and state == 'leased' and tonumber(redis.call('ZSCORE', leased, id)) < no_end then
    return nil -- it has begun; one on its way to another shard has not
  end
  return id, state
end

-- Free the key when its job is done, unless it is held for a time or by another.
local function release_unique(key, id)
  local value = redis.call('HGET', unique, key)
  if value then
    local scope, _, holder = string.match(value, '^(%a+) (%d+) (.*)$')
    if holder == id and scope ~= 'time' then
      redis.call('HDEL', unique, key)
    end
  end
end
