-- The shard knows until when something that outlives its job is kept here: when its jobs have moved away, it is still asked
-- for that. In steps of a minute, so that it is seldom written.
local function note_lasting(until_ms)
  if until_ms > (tonumber(redis.call('HGET', meta, 'lasts')) or 0) then
    redis.call('HSET', meta, 'lasts', string.format('%.0f', until_ms + 60000))
  end
end
