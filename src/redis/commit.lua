-- Ends one entry: stores its result (or its dead letter) and acknowledges it, or does nothing.
--
-- KEYS[1] input stream, KEYS[2] stream to store in
-- ARGV[1] consumer group, ARGV[2] entry id
-- ARGV[3] what to do: store, dead or drop
-- ARGV[4] approximate length limit of KEYS[2], 0 for none
-- ARGV[5] 1 to delete the input entry as well
-- ARGV[6] entry that must have been ended before this one, 0 for none
-- ARGV[7...] fields and values: all of them (store), or those added to the original ones (dead)
--
-- Returns 1 when done, 0 when the entry was not pending any more: somebody else has ended it.
--
-- The pending entry is the fence. It is looked at first and acknowledged last, so that a refusal
-- in between (out of memory, a key of the wrong type) leaves the entry pending.
local input, target = KEYS[1], KEYS[2]
local group, id, action, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local function is_pending(entry)
  return #redis.call('XPENDING', input, group, entry, entry, 1) > 0
end

if not is_pending(id) then
  return 0
end

-- Commits of a batch follow each other without waiting. If one was refused, those of the same
-- camera behind it must not overtake it.
if ARGV[6] ~= '0' and is_pending(ARGV[6]) then
  return redis.error_reply('ORDER the frame before this one is still pending')
end

if action ~= 'drop' then
  local command = { 'XADD', target }
  if limit ~= '0' then
    command[3], command[4], command[5] = 'MAXLEN', '~', limit
  end
  command[#command + 1] = '*'
  if action == 'dead' then
    -- The server copies the original fields itself: they need not travel back, and an entry that
    -- was too large to be read is kept whole as well.
    local original = redis.call('XRANGE', input, id, id)[1]
    local parts = original and original[2] or {}
    -- Lua passes at most 8,000 arguments. No real entry comes near; of one that does, the first
    -- fields are kept, for a dead letter that is cut off is better than an entry that nobody can
    -- end.
    for index = 1, math.min(#parts, 7900) do
      command[#command + 1] = parts[index]
    end
  end
  for index = 7, #ARGV do
    command[#command + 1] = ARGV[index]
  end
  redis.call(unpack(command))
end

redis.call('XACK', input, group, id)
-- The entry has ended, whatever becomes of its body: a refusal (of an account without the right)
-- must not make it look as if it had not.
if ARGV[5] == '1' then
  redis.pcall('XDEL', input, id)
end
return 1
