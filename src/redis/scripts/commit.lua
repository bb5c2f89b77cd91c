-- Ends one entry: stores its result (or its dead letter) and acknowledges it, or does nothing.
--
-- KEYS[1] input stream, KEYS[2] stream to store in; then the keys of fence.lua
-- ARGV[1] consumer group, ARGV[2] entry id
-- ARGV[3] action: store, dead or drop
-- ARGV[4] approximate length limit of KEYS[2], 0 for none
-- ARGV[5] retention of the input entry: keep, xdel or xackdel
-- ARGV[6] id of the entry that must have been ended before this one, 0 for none
-- ARGV[7] 1 if an entry that is not pending must not be stored (the fence)
-- ARGV[8] the identity consumer of the group (see group.lua), empty if unknown
-- ARGV[9] id in KEYS[2] after which an earlier, unanswered attempt may have stored, 0 for none
-- ARGV[10] 1 if the group was recovered since that attempt
-- ARGV[11] length of KEYS[2] from which on no result is stored (backpressure), 0 for none
-- ARGV[12] number of results: more than one for an entry with several frames
-- ARGV[13...] fields and values. For store: those of all results, one result after the other, the
-- same number of fields each. For dead: those added to the original ones; a field named data
-- replaces the original data and ring.
--
-- Returns a code and the id of the last entry stored (empty if nothing was stored):
--   0 ended by another engine or by an operator; nothing was done
--   1 done
--   2 done by the earlier attempt
--   3 done, but the server refused to delete the input entry
--
-- Everything that can be refused is checked before anything is stored, and the acknowledgement
-- comes last. A refusal (out of memory, a key of the wrong type, a missing right) therefore leaves
-- the entry pending and nothing stored. The acknowledgement is tried out first, with an id that no
-- entry has. The trial is a write, and Redis skips its memory check after the first write of a
-- script. From Redis 7.0 on, a script with a #!lua header is checked before it begins, which
-- IS_CHECKED says. Before, an XADD that cannot store anything is tried before the trial.
local input, target = KEYS[1], KEYS[2]
local group, id, action, limit, retention = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local after, fence, identity, since, restored = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local full_at = ARGV[11]
local results = tonumber(ARGV[12])
local FIELDS = 13

-- Fields and values of one result.
local WIDTH = (#ARGV - FIELDS + 1) / math.max(results, 1)

-- An id that no entry has.
local NONE = '0-0'

-- Number of stored results to compare with, newest first. Bounded so that other clients do not wait
-- long.
local LOOK_BACK = math.min(256 * results, 4096)

local function is_pending(entry)
  return #redis.call('XPENDING', input, group, entry, entry, 1) > 0
end

-- If the account lacks the right to ask, the group is assumed to be the known one.
local function is_known_group()
  local consumers = redis.pcall('XINFO', 'CONSUMERS', input, group)
  if identity == '' or consumers.err then
    return true
  end
  for _, consumer in ipairs(consumers) do
    if consumer[2] == identity then
      return true
    end
  end
  return false
end

-- Whether a stored entry ends with exactly the fields of result number `index`.
local function is_result(parts, index)
  local last = FIELDS - 1 + index * WIDTH
  for back = 0, WIDTH - 1 do
    if parts[#parts - back] ~= ARGV[last - back] then
      return false
    end
  end
  return true
end

-- Whether the earlier attempt stored its results: an entry in KEYS[2] ends with exactly the fields
-- of one of them, including the time of processing. All results are stored in one step, so one is
-- proof for all; a consumer may have deleted the others. If the account lacks the right to look,
-- the answer is no.
local function is_stored()
  local to = '+'
  for _ = 1, LOOK_BACK do
    local entry = redis.pcall('XREVRANGE', target, to, '(' .. since, 'COUNT', 1)[1]
    if not entry then
      return false
    end
    for index = 1, results do
      if is_result(entry[2], index) then
        return true
      end
    end
    to = '(' .. entry[1]
  end
  return false
end

local function acknowledge(entry)
  if retention == 'xackdel' then
    redis.call('XACKDEL', input, group, 'IDS', 1, entry)
  else
    redis.call('XACK', input, group, entry)
  end
end

-- Acknowledges the entry and deletes it if requested. Returns whether the deletion was refused. The
-- refusal must not fail the script, because the entry has ended.
local function finish()
  acknowledge(id)
  if retention ~= 'xdel' then
    return false
  end
  local deleted = redis.pcall('XDEL', input, id)
  return type(deleted) == 'table' and deleted.err ~= nil
end

local pending = is_pending(id)
if not pending and not is_known_group() then
  return redis.error_reply('NOGROUP the consumer group was made anew and does not know the entry')
end
if since ~= '0' and (not pending or restored == '1') and (action == 'drop' or is_stored()) then
  finish()
  return { 2, '' }
end
if not pending and fence == '1' then
  return { 0, '' }
end

-- Commits of a batch are sent without waiting for each other. If one was refused, later ones of the
-- same camera must not overtake it.
if after ~= '0' and is_pending(after) then
  return redis.error_reply('ORDER the frame before this one is still pending')
end

if action == 'store' and full_at ~= '0' then
  local length = redis.call('XLEN', target)
  local room = tonumber(full_at) - length
  -- If an entry has more results than the stream may hold, it is stored once the stream is empty.
  if room <= 0 or (room < results and length > 0) then
    return redis.error_reply('FULL ' .. length)
  end
end

-- If the server may not store or the account may not acknowledge, this fails before anything is
-- stored.
if action ~= 'drop' then
  if not IS_CHECKED then
    local trial = { 'XADD', target, NONE, 'x', 'x' }
    if not redis.pcall(unpack(trial)).err:find('greater than 0-0', 1, true) then
      redis.call(unpack(trial))
    end
  end
  acknowledge(NONE)
end

local function add(first, last)
  local command = { 'XADD', target }
  if limit ~= '0' then
    command[3], command[4], command[5] = 'MAXLEN', '~', limit
  end
  command[#command + 1] = '*'
  if action == 'dead' then
    -- The server copies the original fields itself. They need not travel back, and an entry that
    -- was too large to be read is kept whole.
    local original = redis.call('XRANGE', input, id, id)[1]
    local parts = original and original[2] or {}
    -- Lua passes at most 8,000 arguments. If the entry has more, only its first fields are kept: a
    -- truncated dead letter is better than an entry that cannot be ended.
    local is_whole = ARGV[first] == 'data'
    for index = 1, math.min(#parts, 7900), 2 do
      -- The frame with its pixels replaces the reference to them.
      if not (is_whole and (parts[index] == 'data' or parts[index] == 'ring')) then
        command[#command + 1], command[#command + 2] = parts[index], parts[index + 1]
      end
    end
  end
  for index = first, last do
    command[#command + 1] = ARGV[index]
  end
  return redis.call(unpack(command))
end

local stored = ''
if action ~= 'drop' then
  for first = FIELDS, #ARGV, WIDTH do
    stored = add(first, first + WIDTH - 1)
  end
end

return { finish() and 3 or 1, stored }
