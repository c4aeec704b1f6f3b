-- The gap guard (DESIGN §4): when the store was away, or its clock jumped, live nodes come first. Returns the moment
-- until which ended leases are left alone, and by how many ms the clock has gone back.
local function stamp(facts, lease, shortest)
  local seen, hold, held_at = tonumber(facts.seen or nil), tonumber(facts.hold or nil) or 0, tonumber(facts.held_at or nil)
  local backwards = 0
  if seen and now < seen then
    backwards = seen - now
    -- a hold made under the clock as it was must not keep dead nodes' jobs away until it catches up
    hold = math.min(hold, now)
    redis.call('HSET', meta, 'hold', string.format('%.0f', hold), 'held_at', string.format('%.0f', math.min(held_at or now, now)))
  elseif seen and now - seen > shortest / 2 then
    local length = (now - seen > lease / 2) and lease or shortest
    if not held_at or now - held_at >= length then
      hold = now + math.floor(length / 3)
      redis.call('HSET', meta, 'hold', string.format('%.0f', hold), 'held_at', string.format('%.0f', now))
    end
  end
  redis.call('HSET', meta, 'seen', string.format('%.0f', now))
  return hold, backwards
end
