-- What several scripts need; it is put in front of them.

-- Whether an entry id comes before another one. Numbers of 64 bits do not fit into those of Lua.
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

-- Fields of an answer that names its values.
local function fields_of(answer)
  local found = {}
  for index = 1, #answer, 2 do
    found[answer[index]] = answer[index + 1]
  end
  return found
end

