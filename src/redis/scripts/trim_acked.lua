-- Removes what every group of a stream has ended: all entries before the first one that is pending
-- in any group, or not yet delivered to it.
--
-- KEYS[1] the stream; then the keys of fence.lua
-- ARGV[1] our group, ARGV[2] the oldest entry in work here, or 0-0, ARGV[3] the identity consumer
-- of our group, empty if unknown; see group.lua
--
-- Does nothing if our group does not exist or has another identity. Checks and trims in one step,
-- so that no group can be lost in between. Returns the number of removed entries.
local stream, ours, held, identity = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

local needed = held ~= '0-0' and held or nil
local exists = false
for _, answer in ipairs(redis.pcall('XINFO', 'GROUPS', stream)) do
  local about = fields_of(answer)
  exists = exists or about['name'] == ours
  -- Keep the last delivered entry too: this costs one entry and avoids a special case.
  local first = about['last-delivered-id']
  local pending = redis.call('XPENDING', stream, about['name'])
  if pending[1] > 0 and is_less(pending[2], first) then
    first = pending[2]
  end
  if not needed or is_less(first, needed) then
    needed = first
  end
end
if not exists or needed == '0-0' then
  return 0
end
if identity ~= '' then
  local is_known = false
  for _, answer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, ours)) do
    is_known = is_known or fields_of(answer)['name'] == identity
  end
  if not is_known then
    return 0
  end
end
return redis.call('XTRIM', stream, 'MINID', '~', needed)
