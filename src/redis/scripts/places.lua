-- Adds messages of one partition to a stream and moves the partition's place (the offset of its
-- next message), in one step and only if the place is the expected one.
--
-- KEYS[1] the stream, KEYS[2] a hash of places: partition -> next offset, KEYS[3] the dead letters
-- ARGV[1] the partition; ARGV[2] the expected place, empty for none; ARGV[3] the place after the
-- last message; ARGV[4] maximum number of dead letters; ARGV[5] number of messages; ARGV[6] the
-- place before the first message
-- ARGV[7...] for each message: the place after it; 1 or 3 for the key it goes to; the number of its
-- names and values; the names and values
--
-- Returns how many messages were added, the place, and the reason why the next one was refused. -1:
-- the place was not the expected one; the actual place is returned.
local partition, expected, behind = ARGV[1], ARGV[2], ARGV[3]
local found = redis.call('HGET', KEYS[2], partition) or ''
if found ~= expected then
  return {-1, found, ''}
end
local function is_error(answer)
  return type(answer) == 'table' and answer['err']
end
local at, place, added = 7, expected ~= '' and expected or ARGV[6], 0
-- The place is set first, because a later refusal does not undo what a script has done.
local moved = redis.pcall('HSET', KEYS[2], partition, behind)
if is_error(moved) then
  return {0, place, moved['err']}
end
for _ = 1, tonumber(ARGV[5]) do
  local after, key, count = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local answer
  if key == 3 then
    answer = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', unpack(ARGV, at + 3, at + 2 + count))
  else
    answer = redis.pcall('XADD', KEYS[1], '*', unpack(ARGV, at + 3, at + 2 + count))
  end
  if is_error(answer) then
    redis.call('HSET', KEYS[2], partition, place)
    return {added, place, answer['err']}
  end
  at, place, added = at + 3 + count, after, added + 1
end
return {added, behind, ''}
