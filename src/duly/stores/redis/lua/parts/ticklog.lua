-- One entry per tick, per run of skipped ticks, and per put, pause and resume of a schedule; limit entries are kept.
local function log_tick(limit, id, nominal, state, why, count)
  if limit > 0 then
    redis.call('XADD', ticklog, 'MAXLEN', '~', limit, '*', 'schedule', id, 'nominal', string.format('%.0f', nominal), 'state', state, 'why', why, 'count', count)
  end
end
