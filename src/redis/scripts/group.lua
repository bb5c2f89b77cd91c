-- Finds or creates a consumer group, and after a loss makes the entries in work pending again.
--
-- KEYS[1] the stream, KEYS[2] and KEYS[3] the streams for its results and its dead letters; without
-- those two, only the entries in work are recovered; then the keys of fence.lua
-- ARGV[1] the group, ARGV[2] the consumer that receives the recovered entries
-- ARGV[3] an entry before everything that the caller may have been given and has not read
-- ARGV[4] the last entry that the group has delivered, as far as the caller knows
-- ARGV[5] the name for a new identity, ARGV[6] the prefix of all identities
-- ARGV[7] 1 if the group was lost; 0 if there was none before; or the identity of the group before:
-- then the group was lost if its identity differs, otherwise no entry is touched
-- ARGV[8] number of entries in work
-- ARGV[9...] the entries in work, oldest first, then those after ARGV[3] that the caller has ended
--
-- A group that was destroyed and created again looks like the old one but knows none of its pending
-- entries. So each group has a consumer that reads nothing and has a unique name: the identity. If
-- the group is destroyed, its identity disappears with it.
--
-- Several engines may share the group. None knows what the others have ended, or have been given
-- and not read. The stored results show it, unless consumers have deleted some: of the entries from
-- ARGV[3] to the last delivered one, those without a result or a dead letter become pending. If
-- another engine has such an entry in work, the fence admits only one of the two results.
--
-- Returns 1 if the group was created, else 0; the last entry delivered; the identity (empty if the
-- account may not create it); the entries in work that have left the stream; and the entries
-- without a result that became pending.
local stream, group, consumer, start, reached = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local name, prefix, before = ARGV[5], ARGV[6], ARGV[7]
local held = tonumber(ARGV[8])
local ENTRIES = 9

-- Number of results looked at, newest first, and the number of older entries in a row that ends the
-- search: more than two engines have in hand.
local LOOK_BACK, OTHERS = 4096, 128

-- Whether the stream was deleted and created again since `reached` was read from it. It was if it
-- ends before `reached`, or if it has older entries but not this one. A stream loses entries at its
-- beginning, or by XDEL, which it records from Redis 7.0 on.
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
  -- After a handover only the end of what has ended is known, and that id need not be an entry.
  local is_handed_over = before ~= '0' and before ~= '1' and start == reached
  if is_handed_over then
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

-- Whether no result was deleted or trimmed from a stream from `oldest` on, or at all if `oldest` is
-- nil. If results are missing, they say nothing about which entries have ended. The dead-letter
-- stream need not exist.
local function is_complete(stored, oldest)
  local answer = redis.pcall('XINFO', 'STREAM', stored)
  if answer.err then
    return stored == KEYS[3] and answer.err:find('no such key') ~= nil
  end
  local about = fields_of(answer)
  if not oldest then
    return about['entries-added'] == about['length']
  end
  return about['max-deleted-entry-id'] ~= nil and is_less(about['max-deleted-entry-id'], oldest)
end

-- Adds the entries after `start` that have ended to `ended`. The given field of a stored entry
-- names its source. Returns the last of them, or nil if the results are incomplete. Entries end
-- nearly in order, so a run of older ones ends the search.
local function add_ended(stored, field, ended)
  local last, to, others = start, '+', 0
  for _ = 1, LOOK_BACK do
    local entry = redis.pcall('XREVRANGE', stored, to, '-', 'COUNT', 1)
    if entry.err then
      return nil
    end
    entry = entry[1]
    if not entry then
      return is_complete(stored) and last or nil
    end
    local id = fields_of(entry[2])[field]
    others = others + 1
    if id and id:match('^%d+%-%d+$') and is_less(start, id) then
      others = 0
      ended[id] = true
      if is_less(last, id) then
        last = id
      end
    end
    if others == OTHERS then
      return is_complete(stored, entry[1]) and last or nil
    end
    to = '(' .. entry[1]
  end
end

-- The identity of the existing group.
local function known_identity()
  local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  if consumers.err then
    return nil
  end
  local identity
  for _, answer in ipairs(consumers) do
    local other = fields_of(answer)['name']
    if other:sub(1, #prefix) == prefix then
      identity = other
    end
  end
  return identity
end

local ended = {}
local last_ended
local created = 0
local found = find()
if found and before == known_identity() then
  return { 0, found['last-delivered-id'], before, {}, {} }
end
local is_lost = before ~= '0'
if is_lost and KEYS[2] then
  local one = add_ended(KEYS[2], 'source_id', ended)
  local other = add_ended(KEYS[3], 'original_id', ended)
  last_ended = one and other and (is_less(one, other) and other or one)
end
if not found then
  local place = last_ended or start
  if reached ~= '0-0' and is_made_anew() then
    place, last_ended = '0-0', nil
  end
  local answer = redis.pcall('XGROUP', 'CREATE', stream, group, place, 'MKSTREAM')
  if answer.err then
    return answer
  end
  created = 1
  found = find()
end

local identity = known_identity()
if not identity then
  -- XREADGROUP would also create the consumer, but would not propagate it to replicas and the AOF.
  local answer = redis.pcall('XGROUP', 'CREATECONSUMER', stream, group, name)
  identity = type(answer) == 'number' and name or ''
end

-- Makes an entry pending if it exists. Returns whether it is pending.
local function make_pending(id)
  return #redis.call('XPENDING', stream, group, id, id, 1) > 0
    or #redis.call('XCLAIM', stream, group, consumer, '0', id, 'FORCE', 'JUSTID') > 0
end

local gone = {}
for index = ENTRIES, #ARGV do
  local id = ARGV[index]
  ended[id] = true
  if index < ENTRIES + held and not make_pending(id) then
    gone[#gone + 1] = id
  end
end

local claimed = {}
local last = found['last-delivered-id']
if last_ended and is_less(start, last) then
  local from = start
  for _ = 1, LOOK_BACK do
    local entry = redis.call('XRANGE', stream, '(' .. from, last, 'COUNT', 1)[1]
    if not entry then
      break
    end
    from = entry[1]
    if not ended[from] and #redis.call('XPENDING', stream, group, from, from, 1) == 0 then
      make_pending(from)
      claimed[#claimed + 1] = from
    end
  end
end
return { created, last, identity, gone, claimed }
