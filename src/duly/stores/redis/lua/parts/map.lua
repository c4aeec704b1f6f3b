-- What a caller with an earlier map sends would lie where nobody with the present one looks; nil if the caller's is present.
local function stale_map(epoch)
  local present = redis.call('HGET', meta, 'epoch')
  if present and tonumber(epoch) < tonumber(present) then
    return redis.error_reply('DULYMAP the map of shards is at epoch ' .. present .. ', not ' .. epoch)
  end
end
