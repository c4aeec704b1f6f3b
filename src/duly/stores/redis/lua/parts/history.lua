-- One entry per call, never per job: the verb, who, how many, and up to 16 ids.
local function record(limit, verb, who, count, ids)
  if limit > 0 and count > 0 then
    redis.call('XADD', history, 'MAXLEN', '~', limit, '*', 'verb', verb, 'who', who, 'count', count, 'ids', table.concat(ids, ' ', 1, math.min(16, #ids)))
  end
end
