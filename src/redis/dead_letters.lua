-- Dead letters without their frames, in either direction.
--
-- KEYS[1] dead-letter stream
-- ARGV[1] XREVRANGE for the newest first, XRANGE for the oldest, ARGV[2] where to begin, ARGV[3]
-- where to end, ARGV[4] most entries, ARGV[5] most bytes looked at: entries hold whole frames
-- ARGV[6] longest value, ARGV[7...] the fields wanted
--
-- Returns {id, bytes of the entry, value of each wanted field} for each; empty where there is none.
local entries_max, bytes_max, value_max = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local found, bytes, from = {}, 0, ARGV[2]
while #found < entries_max and bytes < bytes_max do
  local entry = redis.call(ARGV[1], KEYS[1], from, ARGV[3], 'COUNT', 1)[1]
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
  for index = 7, #ARGV do
    about[index - 4] = string.sub(values[ARGV[index]] or '', 1, value_max)
  end
  found[#found + 1] = about
  bytes = bytes + size
  from = '(' .. entry[1]
end
return found
