-- The store's clock: ARGV[1] in microseconds when a test gives it, else the server's.
local now_us = tonumber(ARGV[1])
if not now_us then
  local time = redis.call('TIME')
  now_us = time[1] * 1000000 + time[2]
end
local now = math.floor(now_us / 1000)

-- The first millisecond at which a delay in ms is over: a delay is never cut short.
local function due_after(delay)
  return delay == 0 and now or math.ceil(now_us / 1000) + delay
end
