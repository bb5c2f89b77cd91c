-- The engines of a consumer group, by the time of their last sign of life on this server's clock.
--
-- KEYS[1] a sorted set, engine -> milliseconds; KEYS[2] a stream that announces changes, on which
-- engines wait with XREAD
-- ARGV[1] the caller, ARGV[2] milliseconds after which an engine counts as gone
-- ARGV[3] here: a sign of life; gone: the caller leaves; told: it has given a stream back; left: it
-- has given a stream back and leaves
--
-- Returns the id of the last change, and the engines that are present.
local members, changes, caller, limit, what = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]

local CHANGES_KEPT = 64

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function whole(number)
  return string.format('%.0f', number)
end

local is_change = what == 'told' or what == 'left'
if what == 'here' then
  is_change = redis.call('ZADD', members, whole(now), caller) == 1
elseif what == 'gone' then
  is_change = redis.call('ZREM', members, caller) == 1
elseif what == 'left' then
  redis.call('ZREM', members, caller)
end
-- A sign of life in the future dates from before this clock was set back.
redis.call('ZREMRANGEBYSCORE', members, '(' .. whole(now + limit), '+inf')
redis.call('ZREMRANGEBYSCORE', members, '-inf', whole(now - 10 * limit))
if is_change then
  redis.call('XADD', changes, 'MAXLEN', '~', CHANGES_KEPT, '*', 'engine', caller)
end
local last = redis.call('XREVRANGE', changes, '+', '-', 'COUNT', 1)[1]
return { last and last[1] or '0-0', redis.call('ZRANGEBYSCORE', members, '(' .. whole(now - limit), '+inf') }
