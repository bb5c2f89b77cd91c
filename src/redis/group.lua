-- Finds a consumer group, or creates it, and makes entries in work pending again.
--
-- KEYS[1] the stream
-- ARGV[1] the group, ARGV[2] a consumer that gets the entries
-- ARGV[3] the entry after which the group goes on if it has to be created
-- ARGV[4] the last entry that the group has ever given out, as far as the caller knows
-- ARGV[5] the name of a new identity, ARGV[6] how the names of all identities begin
-- ARGV[7...] the entries in work, the oldest first
--
-- A group that was destroyed and created again looks like the old one, but knows none of its
-- pending entries. So each group gets a consumer that reads nothing and whose name is unique: the
-- identity. It goes with its group.
--
-- Returns 1 if the group was created or else 0, the last entry delivered, the identity (empty if
-- the account may not give it one), and the entries in work that are not in the stream any more.
local stream, group, consumer, start, reached = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local name, prefix = ARGV[5], ARGV[6]
local HELD = 7

-- Whether the stream is another one than that of which `reached` was read: it ends before it, or
-- it has older entries and should have this one. Streams lose entries at their beginning, or by
-- XDEL, which they remember from Redis 7.0 on.
local function is_made_anew()
  local answer = redis.pcall('XINFO', 'STREAM', stream)
  if answer.err then
    return true
  end
  local about = fields_of(answer)
  if is_less(about['last-generated-id'], reached) then
    return true
  end
  local first = about['first-entry']
  if not first or is_less(reached, first[1]) then
    return false
  end
  if not is_less(about['max-deleted-entry-id'] or '0-0', reached) then
    return false
  end
  return #redis.call('XRANGE', stream, reached, reached) == 0
end

local function find()
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, answer in ipairs(groups) do
    local about = fields_of(answer)
    if about['name'] == group then
      return about
    end
  end
end

local created = 0
local found = find()
if not found then
  if reached ~= '0-0' and is_made_anew() then
    start = '0-0'
  end
  local answer = redis.pcall('XGROUP', 'CREATE', stream, group, start, 'MKSTREAM')
  if answer.err then
    return answer
  end
  created = 1
  found = find()
end

local identity
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
if consumers.err then
  identity = ''
else
  for _, answer in ipairs(consumers) do
    local other = fields_of(answer)['name']
    if other:sub(1, #prefix) == prefix then
      identity = other
    end
  end
  if not identity then
    -- XREADGROUP would do as well, but replicas and files would not hear of the consumer.
    local answer = redis.pcall('XGROUP', 'CREATECONSUMER', stream, group, name)
    identity = type(answer) == 'number' and name or ''
  end
end

local gone = {}
for index = HELD, #ARGV do
  local id = ARGV[index]
  if #redis.call('XPENDING', stream, group, id, id, 1) == 0
    and #redis.call('XCLAIM', stream, group, consumer, '0', id, 'FORCE', 'JUSTID') == 0
  then
    gone[#gone + 1] = id
  end
end
return { created, found and found['last-delivered-id'] or start, identity, gone }
