-- Lists dead letters without their frames, newest or oldest first.
--
-- KEYS[1] dead-letter stream
-- ARGV[1] XREVRANGE for the newest first, XRANGE for the oldest first; ARGV[2] first id, ARGV[3]
-- last id, ARGV[4] maximum number of entries
-- ARGV[5] maximum bytes to look at, because entries hold whole frames
-- ARGV[6] maximum length of a value in bytes, ARGV[7...] the wanted fields
--
-- Returns {id, bytes of the entry, value of each wanted field} for each dead letter. A missing
-- value is empty.
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
    -- If a field occurs twice, the later one was added by Framepress.
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
