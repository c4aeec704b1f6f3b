-- What is known of each id.
-- KEYS jobs pending leased running attempts control errors progress dead ended
-- ARGV now_us, then ids
-- Returns per id {id, state, score, value, counts, running, cancel asked, error, progress}, {id, until} if remembered, or 0
-- include time record look
local answers = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local found = look_at(id)
  if not found then
    local until_ms = tonumber(redis.call('ZSCORE', ended, id) or nil)
    found = until_ms and until_ms > now and { id, until_ms } or 0
  end
  answers[#answers + 1] = found
end
return answers
