-- Takes new entries that are too old out of the way: they are delivered to the consumer as XREADGROUP
-- does, but their bodies stay here, for they would take the time that newer ones need.
--
-- KEYS[1] the stream; behind it what fence.lua wants
-- ARGV[1] the group, ARGV[2] the consumer
-- ARGV[3] milliseconds: an entry is too old if it was added longer ago
-- ARGV[4] most entries that are taken
--
-- Returns for each entry its id, its field camera_id (empty if there is none) and the beginning of its
-- data, one after the other. It ends at the first entry that is not too old.
local HEAD_BYTES = 512

local stream, group, consumer, age, most = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - age

local last
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local known = {}
  for index = 1, #fields, 2 do
    known[fields[index]] = fields[index + 1]
  end
  if known['name'] == group then
    last = known['last-delivered-id']
  end
end
if not last then
  return redis.error_reply('NOGROUP the consumer group is gone')
end

local taken = {}
for _ = 1, most do
  local entry = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)[1]
  if not entry or tonumber(string.match(entry[1], '^%d+')) >= oldest then
    break
  end
  redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
  last = entry[1]
  local fields = {}
  for index = 1, #entry[2], 2 do
    fields[entry[2][index]] = entry[2][index + 1]
  end
  taken[#taken + 1] = last
  taken[#taken + 1] = fields['camera_id'] or ''
  taken[#taken + 1] = string.sub(fields['data'] or '', 1, HEAD_BYTES)
end
return taken
