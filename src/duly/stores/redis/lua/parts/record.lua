-- A kept job is 6 bytes enqueue time (ms), 1 byte flags (1 named, then two bits priority), 1 byte length of its unique
-- key, the key, the envelope.
local function job_value(named, priority, key, body)
  return struct.pack('>I6BB', now, (named and 1 or 0) + priority * 2, #key) .. key .. body
end

-- named, priority (0 to 3), unique key ('' for none)
local function job_facts(value)
  local flags, length = string.byte(value, 7), string.byte(value, 8)
  return flags % 2 == 1, math.floor(flags / 2) % 4, string.sub(value, 9, 8 + length)
end
