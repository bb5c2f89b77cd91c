-- Takes entries that are too old: delivers them to the consumer as XREADGROUP does, but leaves
-- their bodies here, because transferring them would delay newer entries.
--
-- KEYS[1] the stream; then the keys of fence.lua
-- ARGV[1] the group, ARGV[2] the consumer
-- ARGV[3] maximum age in milliseconds: an entry added earlier is too old
-- ARGV[4] maximum number of entries
--
-- Returns for each entry its id, its field camera_id (empty if it has none) and the beginning of
-- its data, as one flat list. Stops at the first entry that is not too old.
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
