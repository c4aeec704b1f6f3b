-- State is where the id is; asked only of ids that are in jobs.
local function state_of(id)
  if redis.call('ZSCORE', leased, id) then
    return 'leased'
  end
  if redis.call('ZSCORE', dead, id) then
    return 'dead'
  end
  return 'pending'
end
