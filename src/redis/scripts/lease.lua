-- The lease of a stream: which engine reads it, and until when by the clock of this server.
--
-- KEYS[1] the lease, a hash: `holder`, `epoch`, `until_ms`, `length_ms`; `ended`, the entry up to
-- which every entry has ended; `group`, the identity of the consumer group, see group.lua
-- ARGV[1] take, renew, give or look; ARGV[2] the caller; ARGV[3] the epoch: the caller's own, or
-- for `take` the highest that it knows; ARGV[4] length in milliseconds; ARGV[5] the consumer group
-- ARGV[6] for `renew` and `give` the new `ended`, ARGV[7] the new `group`, empty to keep it
--
-- take  succeeds if the stream is free, the lease has expired, or the caller holds it. The
--       new epoch is above the stored one and the one the caller knows: after a failover the
--       server may know an older epoch.
-- renew succeeds if holder and epoch are the caller's. It may have expired: then no other
--       engine has taken it.
-- give  ends the caller's own lease.
--
-- Each tenure has an empty stream with the same consumer group. The reader names this stream beside
-- its input stream in XREADGROUP, which reads nothing if one of its streams lacks the group. So
-- when the lease changes hands, waiting requests of the old holder end and later ones are refused.
--
-- Returns 1 or 0, and the state of the lease, or its state before it was taken: holder (empty for
-- none), epoch (the new one after `take`), milliseconds until its end (0 or below if it has
-- expired), `ended`, `group`.
local lease = KEYS[1]
local action, caller, epoch, length, group = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

-- Longer than any request waits here. If no engine removes a tenure stream, it expires.
local TENURE_MS = 600000

-- A whole number small enough to be incremented exactly, or nil. Another client may have written
-- anything into the hash.
local function number_of(text)
  local number = tonumber(text)
  if number and number >= 0 and number < 9007199254740991 and number % 1 == 0 then
    return number
  end
end

local function whole(number)
  return string.format('%.0f', number)
end

local known = redis.call('HMGET', lease, 'holder', 'epoch', 'until_ms', 'ended', 'group', 'length_ms')
local holder, until_ms = known[1] or '', number_of(known[3]) or 0
local held = whole(number_of(known[2]) or 0)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- If the lease ends later than its length from now, the server's clock was set back; shorten it.
local latest = now + (number_of(known[6]) or tonumber(length))
if until_ms > latest then
  until_ms = latest
  redis.call('HSET', lease, 'until_ms', whole(until_ms))
end

local function state(done)
  return { done, holder, held, whole(until_ms - now), known[4] or '0-0', known[5] or '' }
end

-- Stores what the next holder needs. While the caller recovers the group, it does not know the new
-- identity and passes an empty one. The old identity stays, and shows the next holder that the
-- group was lost.
local function leave()
  redis.call('HSET', lease, 'ended', ARGV[6])
  if ARGV[7] ~= '' then
    redis.call('HSET', lease, 'group', ARGV[7])
  end
end

local function tenure(engine, number)
  return lease .. ':' .. engine .. ':' .. number
end

local is_own = holder == caller and held == epoch
if action == 'take' then
  if holder ~= '' and holder ~= caller and until_ms > now then
    return state(0)
  end
  if holder ~= '' then
    redis.call('DEL', tenure(holder, held))
  end
  held = whole(math.max(tonumber(held), number_of(epoch) or 0) + 1)
  local own = tenure(caller, held)
  redis.call('DEL', own)
  redis.call('XGROUP', 'CREATE', own, group, '$', 'MKSTREAM')
  redis.call('PEXPIRE', own, TENURE_MS)
  redis.call(
    'HSET', lease, 'holder', caller, 'epoch', held, 'until_ms', whole(now + length), 'length_ms', length
  )
  return state(1)
elseif action == 'renew' and is_own then
  until_ms = now + length
  redis.call('HSET', lease, 'until_ms', whole(until_ms), 'length_ms', length)
  leave()
  redis.call('PEXPIRE', tenure(holder, held), TENURE_MS)
  return state(1)
elseif action == 'give' and is_own then
  redis.call('DEL', tenure(holder, held))
  redis.call('HSET', lease, 'holder', '', 'until_ms', whole(now))
  leave()
  return state(1)
end
return state(0)
