-- Assigns pending entries to the calling consumer and resets their idle time.
--
-- KEYS[1] the stream; then the keys of fence.lua
-- ARGV[1] the group, ARGV[2] the consumer that receives the entries
-- ARGV[3] minimum idle time in milliseconds for entries of any consumer; or `own` for entries that
-- are already this consumer's; or `all`; or `handed` for entries that their last holder handed over
-- ARGV[4...] the entries
--
-- An entry that was ended, renewed or taken over in the meantime is left out. Taking an entry over
-- from another consumer counts as a delivery, because the entry may have crashed that consumer.
-- Claiming an own entry does not count, nor does claiming a handed-over one.
--
-- Returns for each entry its id, its deliveries, and 1 if it was already this consumer's.
local stream, group, consumer, idle = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

local found = {}
for index = 4, #ARGV do
  local id = ARGV[index]
  local row
  if idle == 'own' then
    row = redis.call('XPENDING', stream, group, id, id, 1, consumer)[1]
  elseif idle == 'all' or idle == 'handed' then
    row = redis.call('XPENDING', stream, group, id, id, 1)[1]
  else
    row = redis.call('XPENDING', stream, group, 'IDLE', idle, id, id, 1)[1]
  end
  if row then
    local deliveries = row[4]
    local is_own = row[2] == consumer and not tonumber(idle)
    if not is_own and idle ~= 'handed' then
      deliveries = deliveries + 1
    end
    redis.call('XCLAIM', stream, group, consumer, '0', id, 'RETRYCOUNT', deliveries, 'JUSTID')
    found[#found + 1] = { id, deliveries, is_own and 1 or 0 }
  end
end
return found
