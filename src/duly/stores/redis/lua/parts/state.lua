-- The end of a lease that has none: of a job on its way to another shard.
local no_end = 4102444800000

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
