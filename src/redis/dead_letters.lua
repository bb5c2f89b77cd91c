-- The latest dead letters, the newest first, without their frames.
--
-- KEYS[1] dead-letter stream
-- ARGV[1] most entries, ARGV[2] most bytes looked at: entries hold whole frames
-- ARGV[3] longest value, ARGV[4...] the fields wanted
--
-- Returns {id, bytes of the entry, value of each wanted field} for each; empty where there is none.
local entries_max, bytes_max, value_max = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local found, bytes, before = {}, 0, '+'
while #found < entries_max and bytes < bytes_max do
  local entry = redis.call('XREVRANGE', KEYS[1], before, '-', 'COUNT', 1)[1]
  if not entry then
    break
  end
  local parts, size, values = entry[2], 0, {}
  for index = 1, #parts, 2 do
    size = size + #parts[index] + #parts[index + 1]
    -- A field may occur twice: the later one is ours.
    values[parts[index]] = parts[index + 1]
  end
  local about = { entry[1], tostring(size) }
  for index = 4, #ARGV do
    about[index - 1] = string.sub(values[ARGV[index]] or '', 1, value_max)
  end
  found[#found + 1] = about
  bytes = bytes + size
  before = '(' .. entry[1]
end
return found
