-- The gap guard (DESIGN §4): when the store was away, or its clock jumped, live nodes come first. Returns the moment
-- until which ended leases are left alone, by how many ms the clock has gone back, and what is to be written to meta.
local function stamp(facts, lease, shortest)
  local changes = { 'seen', string.format('%.0f', now) }
  local function note(hold, held_at)
    changes[3], changes[4], changes[5], changes[6] = 'hold', string.format('%.0f', hold), 'held_at', string.format('%.0f', held_at)
  end
  local seen, hold, held_at = tonumber(facts.seen or nil), tonumber(facts.hold or nil) or 0, tonumber(facts.held_at or nil)
  local backwards = 0
  if seen and now < seen then
    backwards = seen - now
    -- a hold made under the clock as it was must not keep dead nodes' jobs away until it catches up
    hold = math.min(hold, now)
    note(hold, math.min(held_at or now, now))
  elseif seen and now - seen > shortest / 2 then
    local length = (now - seen > lease / 2) and lease or shortest
    if not held_at or now - held_at >= length then
      hold = now + math.floor(length / 3)
      note(hold, now)
    end
  end
  return hold, backwards, changes
end
