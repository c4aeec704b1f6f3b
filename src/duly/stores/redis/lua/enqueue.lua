-- Keep jobs, all or none; a repeat of (client, n) writes nothing and answers as before.
-- KEYS jobs pending leased dead ended unique clients wake history meta
-- ARGV now_us client n history epoch, then per job: id due options body (see parts/keep.lua)
-- Returns the number written when every job was created, else a flat list of state, id per job
-- include time single state record unique wake lasting tables keep history map
local client, n, history_limit = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local before = redis.call('HGET', clients, client)
if before then
  local last, _, answered = string.match(before, '^(%d+) (%d+) (.*)$')
  last = tonumber(last)
  if n < last then
    return redis.error_reply('DULYSTALE enqueue ' .. n .. ' of a client that has since sent ' .. last)
  end
  if n == last then
    local answers = cmsgpack.unpack(answered)
    return answers
  end
end

local stale = stale_map(ARGV[5])
if stale then
  return stale
end
local items, ids = {}, {}
for i = 6, #ARGV, 4 do
  items[#items + 1] = { ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3] }
  ids[#ids + 1] = ARGV[i]
end
local answers, written, rouse = keep_jobs(items)
redis.call('HSET', clients, client, string.format('%.0f %.0f ', n, now) .. cmsgpack.pack(answers or written))
if rouse then
  leave_token()
end
record(history_limit, 'enqueue', client, written, ids)
return answers or written
