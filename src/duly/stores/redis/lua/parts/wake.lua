-- At most one token lies in the wake list; a blocked node takes it and claims.
local function leave_token()
  if redis.call('LLEN', wake) == 0 then
    redis.call('RPUSH', wake, '1')
  end
end

-- The earliest due time of all priorities, or nil.
local function earliest_due()
  local head
  for p = 1, 4 do
    local first = redis.call('ZRANGE', pending[p], 0, 0, 'WITHSCORES')
    local due = tonumber(first[2])
    if due and (not head or due < head) then
      head = due
    end
  end
  return head
end
