-- Reads both streams and the group and runs a command, all in one step.
--
-- KEYS[1] input stream, KEYS[2] output stream
-- ARGV[1] consumer group, ARGV[2] first result that is not known yet, ARGV[3...] the command
--
-- Returns the input as ids and frames, the results from ARGV[2] on as ids, frames and sources, the
-- pending ids, whether the group exists, and its last delivered id.
local function field(values, name)
  for index = 1, #values, 2 do
    if values[index] == name then return values[index + 1] end
  end
  return ''
end

local function list(key, from, names)
  local all = {}
  if redis.call('TYPE', key)['ok'] ~= 'stream' then return all end
  while true do
    local page = redis.call('XRANGE', key, from, '+', 'COUNT', 50)
    if #page == 0 then return all end
    for _, entry in ipairs(page) do
      all[#all + 1] = entry[1]
      for _, name in ipairs(names) do all[#all + 1] = field(entry[2], name) end
    end
    from = '(' .. page[#page][1]
  end
end

local input = list(KEYS[1], '-', { 'frame_id' })
local output = list(KEYS[2], ARGV[2], { 'frame_id', 'source_id' })
local pending, exists, last = {}, 0, '0-0'
if redis.call('TYPE', KEYS[1])['ok'] == 'stream' then
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    if field(group, 'name') == ARGV[1] then
      exists, last = 1, field(group, 'last-delivered-id')
      for _, entry in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000000)) do
        pending[#pending + 1] = entry[1]
      end
    end
  end
end
if #ARGV > 2 then redis.call(unpack(ARGV, 3)) end
return { input, output, pending, exists, last }
