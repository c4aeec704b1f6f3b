-- A running entry is "fence started node". A lease is held under a fence if the entry begins with it.
local function holds(entry, fence)
  return entry and string.sub(entry, 1, #fence + 1) == fence .. ' '
end
