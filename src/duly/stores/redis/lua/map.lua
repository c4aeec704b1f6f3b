-- Make a queue known, and read the map of shards; a new queue is entered in it with its partitions.
-- KEYS map queues
-- ARGV now_us queue ('' for none) partitions servers algorithm
-- Returns the map as JSON, or '' where there is none and all is in one place
local queue, partitions, servers, algorithm = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local text = redis.call('GET', map)
local is_first = redis.call('EXISTS', queues) == 0
local is_new = queue ~= '' and redis.call('SADD', queues, queue) == 1
local known = text and cjson.decode(text) or { epoch = 0, servers = is_first and servers or 1, partitions = {}, algorithm = algorithm }
if known.was and #known.was == 0 then
  known.was = nil -- it would be written as an object
end
local enters = is_new and partitions > 1 and not known.partitions[queue]
if enters then
  known.partitions[queue] = partitions
end
if enters or (not text and is_first and servers > 1) then
  text = cjson.encode(known)
  if is_new then
    redis.call('SET', map, text)
  end
end
return text or ''
