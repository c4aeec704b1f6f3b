-- Who holds a unique key.
-- KEYS jobs leased dead unique
-- ARGV now_us key
-- Returns {id, state}, or {} if it is free
-- include time state unique
local id, state = unique_holder(ARGV[2])
return id and { id, state } or {}
