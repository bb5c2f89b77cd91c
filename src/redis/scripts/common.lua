-- Functions that several scripts need; prepended to those scripts.

-- Whether an entry id comes before another one. Compares text, because Lua numbers cannot hold 64
-- bits.
local function is_less(one, other)
  local function is_shorter(a, b)
    return #a < #b or (#a == #b and a < b)
  end
  local one_millis, one_sequence = one:match('(%d+)-(%d+)')
  local other_millis, other_sequence = other:match('(%d+)-(%d+)')
  if one_millis ~= other_millis then
    return is_shorter(one_millis, other_millis)
  end
  return is_shorter(one_sequence, other_sequence)
end

-- Converts a flat list of names and values into a table.
local function fields_of(answer)
  local found = {}
  for index = 1, #answer, 2 do
    found[answer[index]] = answer[index + 1]
  end
  return found
end

