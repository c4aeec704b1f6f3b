-- Tell the first of those who wait that it may try; needs lock, line.
local function call_next()
  local first = redis.call('ZRANGE', line, 0, 0)[1]
  if first then
    redis.pcall('PUBLISH', lock .. ':' .. first, '') -- forbidden to some users: those who wait look for themselves
  end
end
