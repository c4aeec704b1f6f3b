-- One step of a walk through the ids that are kept: jobs with their unique keys, or schedules.
-- KEYS jobs schedules
-- ARGV now_us jobs | schedules, cursor limit
-- Returns {next cursor ('0': over), flat list of id, unique key ('' for none)}
-- include record
local room = ARGV[2] == 'jobs' and jobs or schedules
local page = redis.call('HSCAN', room, ARGV[3], 'COUNT', ARGV[4])
local found = {}
for i = 1, #page[2], 2 do
  local key = ''
  if room == jobs then
    local _
    _, _, key = job_facts(page[2][i + 1])
  end
  found[i], found[i + 1] = page[2][i], key
end
return { page[1], found }
