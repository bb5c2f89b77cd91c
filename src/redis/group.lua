-- Finds a consumer group, or creates it, and makes entries in work pending again.
--
-- KEYS[1] the stream, KEYS[2] and KEYS[3] where results and dead letters of it are stored; without
-- them, only the entries in work are seen to; behind them what fence.lua wants
-- ARGV[1] the group, ARGV[2] a consumer that gets the entries
-- ARGV[3] an entry before all that the caller may have been given and has not read
-- ARGV[4] the last entry that the group has ever given out, as far as the caller knows
-- ARGV[5] the name of a new identity, ARGV[6] how the names of all identities begin
-- ARGV[7] 1 if the group was lost, 0 if there was none before, or the identity of the one before: then it
-- was lost if it is another one now, and otherwise the entries below are left as they are
-- ARGV[8] how many entries are in work
-- ARGV[9...] these, the oldest first, and then those after ARGV[3] that the caller has ended
--
-- A group that was destroyed and created again looks like the old one, but knows none of its
-- pending entries. So each group gets a consumer that reads nothing and whose name is unique: the
-- identity. It goes with its group.
--
-- Several engines may share the group, and none knows what the others have ended, or were given and
-- have not read. The results know, unless consumers have deleted some: of the entries from ARGV[3] to
-- the last delivered one, those without a result or a dead letter become pending. If another engine
-- has one of them in work, the fence lets one of the two through.
--
-- Returns 1 if the group was created or else 0, the last entry delivered, the identity (empty if
-- the account may not give it one), the entries in work that are not in the stream any more, and those
-- without a result that became pending.
local stream, group, consumer, start, reached = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local name, prefix, before = ARGV[5], ARGV[6], ARGV[7]
local held = tonumber(ARGV[8])
local ENTRIES = 9

-- Results looked at, the newest first, and how many of older entries end the search: more than two
-- engines have in hand.
local LOOK_BACK, OTHERS = 4096, 128

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
  -- Of what a former holder has left only the end is known, which need not be an entry.
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

-- Whether a stream still has everything from `oldest` on that was stored in it, or everything at all
-- without it. Consumers may delete or trim results, and then these tell nothing about what has ended.
-- There need not be any dead letter.
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

-- Adds the entries after `start` that have ended, by the field of a stored one that names them; the
-- last of them. `nil` if that cannot be told. Entries end nearly in their order, so a run of others
-- ends the search.
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

-- The identity of the group that is there.
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
  -- XREADGROUP would do as well, but replicas and files would not hear of the consumer.
  local answer = redis.pcall('XGROUP', 'CREATECONSUMER', stream, group, name)
  identity = type(answer) == 'number' and name or ''
end

-- Whether an entry is pending; it is made so as long as it exists.
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
