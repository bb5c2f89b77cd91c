-- Makes entries of a pending list the caller's to process, and starts their idle time again.
--
-- KEYS[1] the stream; behind it what fence.lua wants
-- ARGV[1] the group, ARGV[2] the consumer that gets them
-- ARGV[3] least idle time in milliseconds of entries of any consumer, `own` for entries that are this
-- consumer's already, `all`, or `handed` for entries that their last holder has only handed over
-- ARGV[4...] the entries
--
-- An entry that was ended, renewed or taken over meanwhile is left out. Taking an entry over from
-- another consumer counts as a delivery: that may have died of it. Finding one's own does not count,
-- nor does an entry whose holder is alive.
--
-- Returns the id of each entry, its deliveries, and 1 if it was this consumer's already.
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
