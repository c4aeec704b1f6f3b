-- All that is known of a kept job, as a flat list; nil if it is not kept.
local function look_at(id)
  local value = redis.call('HGET', jobs, id)
  if not value then
    return nil
  end
  local state, at = 'leased', redis.call('ZSCORE', leased, id)
  if not at then
    state, at = 'dead', redis.call('ZSCORE', dead, id)
  end
  if not at then
    local _, priority = job_facts(value)
    state, at = 'pending', redis.call('ZSCORE', pending[priority + 1], id)
  end
  return {
    id, state, at or '0', value,
    redis.call('HGET', attempts, id) or '',
    state == 'leased' and redis.call('HGET', running, id) or '',
    redis.call('HEXISTS', control, id),
    redis.call('HGET', errors, id) or '',
    redis.call('HGET', progress, id) or '',
  }
end
