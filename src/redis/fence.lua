-- Ends the script unless the caller holds the lease of the stream; see lease.lua. It is put in front
-- of the scripts that change a stream.
--
-- KEYS[LEASE] the lease, KEYS[LEASE + 1] the caller's tenure: the name of the lease with the caller and
-- its epoch behind it. Without these two the stream is shared, and nothing is checked.
if KEYS[LEASE] then
  local known = redis.call('HMGET', KEYS[LEASE], 'holder', 'epoch')
  local present = KEYS[LEASE] .. ':' .. (known[1] or '') .. ':' .. (known[2] or '')
  if present ~= KEYS[LEASE + 1] then
    return redis.error_reply('LEASE another engine holds the stream, or none does')
  end
end

