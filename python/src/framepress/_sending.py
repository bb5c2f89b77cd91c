"""What a producer does, as steps: `Producer` and `AsyncProducer` carry them out."""

from __future__ import annotations

import collections
import contextlib
import datetime
import math
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ._link import (
    Argument,
    Backoff,
    Blob,
    Link,
    Lost,
    Pause,
    Piece,
    Steps,
    is_response_error,
    raise_if_error,
)
from ._pb import ProcessedFrame, ProcessingStage
from ._picture import Image, Picture, picture_of
from ._ring import Ring, RingFile, earlier_epoch
from .errors import ConfigError, ImageError, QueueFull, RedisRefused, RingBusy

__all__ = ["Counts", "Options", "Sending"]

#: Lua: the id of an entry of a frame, among the last ones after a known entry.
_FIND = """
local last = '+'
for _ = 1, 64 do
  local found = redis.call('XREVRANGE', KEYS[1], last, ARGV[1], 'COUNT', 1)[1]
  if not found then return false end
  local frame, camera
  for at = 1, #found[2], 2 do
    if found[2][at] == 'frame_id' then frame = found[2][at + 1] end
    if found[2][at] == 'camera_id' then camera = found[2][at + 1] end
  end
  if frame == ARGV[2] and camera == ARGV[3] then return found[1] end
  last = '(' .. found[1]
end
return false
"""
_OWN_FIELDS = frozenset(("data", "ring", "frame_id", "camera_id", "timestamp"))
_POLICIES = ("block", "newest", "oldest")


@dataclass
class Counts:
    """What a producer has done so far. Every frame handed over is in one of the first five."""

    #: Frames in the stream.
    sent: int = 0
    #: Frames dropped on arrival: no room, or Redis away, with `full="newest"`.
    dropped_newest: int = 0
    #: Frames dropped for newer ones with `full="oldest"`, by this producer or from the stream.
    dropped_oldest: int = 0
    #: Frames for which `send` raised: refused by Redis, or no room in time with `full="block"`.
    failed: int = 0
    #: Frames kept until Redis is back, with `full="oldest"`.
    held: int = 0
    #: Images refused before anything was sent: wrong shape, dtype or size.
    refused: int = 0
    #: Times that `send` had to wait for room.
    waits: int = 0
    #: Connections lost.
    reconnects: int = 0
    #: Frames sent again after a lost connection, because they were not found in the stream.
    resent: int = 0
    #: Bytes of images sent; in a ring they do not pass through Redis.
    image_bytes: int = 0


@dataclass(frozen=True)
class Options:
    """Checked settings of a producer."""

    stream: str = "camera_frames"
    shards: int = 1
    consumer_group: str = "stream_processor"
    full: str = "block"
    timeout: float = 30.0
    max_waiting: int = 0
    max_stream_length: int = 0
    max_payload_bytes: int = 67_108_864
    hold: int = 16
    ring: Ring | None = None

    def __post_init__(self) -> None:
        if self.full not in _POLICIES:
            raise ConfigError(f"full {self.full!r}: one of {', '.join(_POLICIES)}")
        for name in ("timeout", "max_waiting", "max_stream_length"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} {getattr(self, name)!r}: 0 or more")
        if self.shards < 1 or self.hold < 1 or self.max_payload_bytes < 1:
            raise ConfigError("shards, hold and max_payload_bytes are 1 or more")
        if self.ring is not None and self.ring.reuse == "lossless" and self.full == "oldest":
            raise ConfigError(
                "full='oldest' drops frames that are not read, reuse='lossless' keeps them: "
                "a ring with reuse='freshest' overwrites the oldest"
            )


@dataclass
class Parcel:
    """A frame ready to be sent."""

    stream: str
    frame_id: str
    camera_id: str
    data: Blob
    beside: tuple[Argument, ...]
    image_bytes: int
    #: Of a ring.
    slot: int | None = None
    #: Whether it may be in the stream already.
    in_doubt: bool = False

    def kept(self) -> Parcel:
        """The same, with pixels of its own: the caller's may change."""
        pieces = [piece if isinstance(piece, bytes) else bytes(piece) for piece in self.data.pieces]
        return replace(self, data=Blob(pieces))


@dataclass
class Sending:
    """The state of one producer. Not for two threads or tasks at a time."""

    link: Link
    options: Options
    counts: Counts = field(default_factory=Counts)
    _ring: RingFile | None = None
    _next_slot: int = 0
    #: Slot -> what may still refer to it: stream and entry, or the parcel of an unknown end.
    _taken: dict[int, tuple[str, bytes] | Parcel] = field(default_factory=dict)
    _held: collections.deque[Parcel] = field(default_factory=collections.deque)
    #: Stream -> id of the last entry of ours.
    _last: dict[str, bytes] = field(default_factory=dict)
    #: Stream -> frames waiting there, as last seen.
    _waiting: dict[str, int] = field(default_factory=dict)
    _backoff: Backoff = field(default_factory=Backoff)
    _not_before: float = 0.0
    _names: str = field(default_factory=lambda: f"{os.getpid():x}-{secrets.token_hex(4)}")
    _number: int = 0

    def send(
        self,
        image: Image,
        camera_id: str,
        timestamp: float | datetime.datetime | None = None,
        frame_id: str | None = None,
        layout: str | None = None,
        color_range: str = "",
        color_matrix: str = "",
        quality: int = 0,
        fields: Mapping[str, Argument] | None = None,
    ) -> Steps[str | None]:
        """See `Producer.send`."""
        try:
            picture = picture_of(image, layout, color_range, color_matrix, quality)
            limit = self.options.max_payload_bytes
            if self.options.ring is None and picture.size > limit:
                raise ImageError(f"an image of {picture.size} bytes, and max_payload_bytes is {limit}")
            head = self._head(camera_id, timestamp, frame_id)
            own = _OWN_FIELDS.intersection(fields or {})
            if own:
                raise ValueError(f"fields {sorted(own)}: these are written from the arguments")
        except (ValueError, TypeError):
            self.counts.refused += 1
            raise
        self._keep_count()
        began = time.monotonic()
        # Callers that wait behind each other share one time-out while Redis is away.
        since = self.link.down_since
        deadline = max((since if since is not None else began) + self.options.timeout, began)
        try:
            if self.options.full != "block" and began < self._not_before:
                raise Lost("a moment ago", may_have_happened=False)
            yield from self._flush_held()
            yield from self._make_room(self._stream_of(camera_id), deadline)
            slot = None
            if self.options.ring is not None:
                slot = yield from self._free_slot(picture, deadline)
        except _NoRoom:
            self.counts.dropped_newest += 1
            return None
        except Lost as lost:
            if self.options.full == "newest":
                self._drop_newest()
                return None
            if self.options.full == "block":
                self.counts.failed += 1
                raise self.link.gone(lost, time.monotonic() - began) from lost
            slot = None
            if self.options.ring is not None:
                slot = yield from self._free_slot(picture, deadline)
            # Behind those that are held already.
            self._hold(self._parcel(picture, head, slot, fields or {}))
            return None
        except ImageError:
            self.counts.refused += 1
            raise
        except BaseException:
            self.counts.failed += 1
            raise
        parcel = self._parcel(picture, head, slot, fields or {})
        return (yield from self._deliver(parcel, began, deadline))

    def flush(self, timeout: float) -> Steps[int]:
        """Sends what is held. Gives the number of frames that still are, after the timeout."""
        deadline = time.monotonic() + timeout
        backoff = Backoff()
        while self._held:
            try:
                yield from self._flush_held()
            except Lost:
                if time.monotonic() >= deadline:
                    break
                yield Pause(min(backoff.step(), max(deadline - time.monotonic(), 0)))
        self._keep_count()
        return len(self._held)

    def ping(self) -> Steps[bool]:
        """Whether Redis answers."""
        try:
            reply = yield from self.link.one(self._stream_of(""), "PING")
        except Lost:
            return False
        return bool(reply == b"PONG")

    def connect(self, timeout: float) -> Steps[None]:
        """Waits until Redis answers."""
        began = time.monotonic()
        backoff = Backoff()
        while True:
            try:
                yield from self.link.one(self._stream_of(""), "PING")
                return
            except Lost as lost:
                left = began + timeout - time.monotonic()
                if left <= 0:
                    raise self.link.gone(lost, time.monotonic() - began) from lost
                yield Pause(min(backoff.step(), left))

    def close(self, remove_ring: bool) -> None:
        """Gives up the ring; what is held is dropped, counted."""
        self.counts.dropped_oldest += len(self._held)
        self._held.clear()
        self._keep_count()
        if self._ring is not None:
            self._ring.close(remove_ring)
            self._ring = None

    # --- what is sent

    def _head(
        self,
        camera_id: str,
        timestamp: float | datetime.datetime | None,
        frame_id: str | None,
    ) -> Any:
        if not isinstance(camera_id, str) or not camera_id:
            raise ValueError(f"camera_id {camera_id!r}: a text that is not empty")
        if frame_id is None:
            self._number += 1
            frame_id = f"{camera_id}-{self._names}-{self._number}"
        elif not isinstance(frame_id, str):
            raise TypeError(f"frame_id {frame_id!r}: a text")
        if timestamp is None:
            timestamp = time.time()
        elif isinstance(timestamp, datetime.datetime):
            timestamp = timestamp.timestamp()
        seconds = float(timestamp)
        if not math.isfinite(seconds):
            raise ValueError(f"timestamp {timestamp!r}: seconds since the Unix epoch")
        return ProcessedFrame(
            frame_id=frame_id,
            camera_id=camera_id,
            timestamp=seconds,
            version="1.0",
            processing_stage=ProcessingStage.PROCESSING_STAGE_INGESTION,
        )

    def _parcel(
        self, picture: Picture, head: Any, slot: int | None, fields: Mapping[str, Argument]
    ) -> Parcel:
        beside: list[Argument] = []
        for name, value in fields.items():
            beside += (name, value)
        pieces: list[Piece]
        if slot is not None:
            assert self._ring is not None
            beside += ("ring", self._ring.write(slot, picture))
            head.original_image.CopyFrom(picture.about)
            pieces = [head.SerializeToString()]
        else:
            # Field 4 of the frame, and in it last field 1, so that the pixels need not be copied.
            about = picture.about.SerializeToString() + b"\x0a" + _varint(picture.size)
            length = len(about) + picture.size
            start = head.SerializeToString() + b"\x22" + _varint(length) + about
            pieces = [start, *picture.chunks()]
        beside += ("frame_id", head.frame_id, "camera_id", head.camera_id)
        beside += ("timestamp", repr(head.timestamp))
        return Parcel(
            self._stream_of(head.camera_id),
            head.frame_id,
            head.camera_id,
            Blob(pieces),
            tuple(beside),
            picture.size,
            slot,
        )

    def _stream_of(self, camera_id: str) -> str:
        shards = self.options.shards
        if shards == 1:
            return self.options.stream
        try:
            import xxhash
        except ImportError:
            raise ConfigError("shards take xxhash: pip install framepress[xxhash]") from None
        shard = xxhash.xxh3_64_intdigest(camera_id.encode()) % shards
        return f"{self.options.stream}:{{{shard}}}"

    # --- sending

    def _deliver(self, parcel: Parcel, began: float, deadline: float) -> Steps[str | None]:
        while True:
            try:
                if self.options.full != "block" and time.monotonic() < self._not_before:
                    raise Lost("a moment ago", may_have_happened=False)
                entry = yield from self._add(parcel)
            except Lost as lost:
                parcel.in_doubt = parcel.in_doubt or lost.may_have_happened
                if self.options.full == "newest" and not parcel.in_doubt:
                    self._drop_newest()
                    return None
                if self.options.full != "block":
                    # One in doubt is neither sent nor dropped until Redis is back.
                    self._hold(parcel)
                    return None
                left = deadline - time.monotonic()
                if left <= 0:
                    self.counts.failed += 1
                    self._release(parcel)
                    raise self.link.gone(lost, time.monotonic() - began) from lost
                yield Pause(min(self._backoff.step(), left))
            except _NoMemory as refusal:
                if self.options.full == "newest":
                    self._drop_newest()
                    return None
                if self.options.full == "oldest":
                    self._hold(parcel)
                    return None
                left = deadline - time.monotonic()
                if left <= 0:
                    self.counts.failed += 1
                    raise QueueFull(f"Redis has no memory: {refusal}") from refusal
                self.counts.waits += 1
                yield Pause(min(self._backoff.step(), left))
            except RedisRefused:
                self.counts.failed += 1
                raise
            except GeneratorExit:
                # The task was cancelled while the answer was awaited.
                parcel.in_doubt = True
                self.counts.failed += 1
                self._release(parcel)
                raise
            else:
                return entry.decode()

    def _add(self, parcel: Parcel) -> Steps[bytes]:
        """Adds the entry, unless it is there already."""
        stream = parcel.stream
        try:
            if parcel.in_doubt:
                found = yield from self._find(parcel)
                if found:
                    self._added(parcel, found)
                    return found
                self.counts.resent += 1
                parcel.in_doubt = False
            add: list[Argument] = ["XADD", stream]
            if self.options.max_stream_length:
                add += ("MAXLEN", "~", self.options.max_stream_length)
            commands: list[list[Argument]] = [[*add, "*", "data", parcel.data, *parcel.beside]]
            if self.options.max_waiting:
                commands += (["XINFO", "GROUPS", stream], ["XLEN", stream])
            replies = yield from self.link.call(stream, commands)
        except Lost:
            self._not_before = time.monotonic() + self._backoff.step()
            raise
        self._backoff.reset()
        self._not_before = 0.0
        entry = replies[0]
        if is_response_error(entry, "OOM"):
            raise _NoMemory(str(entry))
        raise_if_error(entry)
        self._added(parcel, entry)
        if self.options.max_waiting:
            self._waiting[stream] = self._count_waiting(replies[1], replies[2])
        return bytes(entry)

    def _added(self, parcel: Parcel, entry: bytes) -> None:
        self.counts.sent += 1
        self.counts.image_bytes += parcel.image_bytes
        self._last[parcel.stream] = entry
        self._keep_count()
        if parcel.slot is not None:
            self._taken[parcel.slot] = (parcel.stream, entry)

    def _find(self, parcel: Parcel) -> Steps[bytes | None]:
        """The entry of a frame whose answer was lost."""
        after = self._last.get(parcel.stream)
        lowest = f"({after.decode()}" if after else "-"
        (found,) = yield from self.link.call(
            parcel.stream,
            [["EVAL", _FIND, 1, parcel.stream, lowest, parcel.frame_id, parcel.camera_id]],
        )
        # Without the right to run scripts the frame is sent again.
        return found if isinstance(found, bytes) else None

    def _drop_newest(self) -> None:
        self.counts.dropped_newest += 1
        self._keep_count()

    def _hold(self, parcel: Parcel) -> None:
        """Keeps a frame until Redis is back. Of more than `hold` frames the oldest is dropped."""
        most = self.options.hold
        if self._ring is not None:
            most = min(most, self._ring.slots - 1)
        self._held.append(parcel if parcel.slot is not None else parcel.kept())
        while len(self._held) > most:
            self._release(self._held.popleft())
            self.counts.dropped_oldest += 1
        self._keep_count()

    def _flush_held(self) -> Steps[None]:
        while self._held:
            parcel = self._held[0]
            try:
                yield from self._add(parcel)
            except Lost as lost:
                parcel.in_doubt = parcel.in_doubt or lost.may_have_happened
                raise
            except _NoMemory as error:
                raise Lost(str(error), may_have_happened=False) from error
            except RedisRefused:
                self.counts.failed += 1
                self._held.popleft()
                raise
            self._held.popleft()

    def _keep_count(self) -> None:
        self.counts.held = len(self._held)
        self.counts.reconnects = self.link.reconnects

    # --- room in the stream

    def _make_room(self, stream: str, deadline: float) -> Steps[None]:
        limit = self.options.max_waiting
        if not limit:
            return
        if stream not in self._waiting:
            yield from self._look(stream)
        backoff = Backoff(0.002, 0.05)
        waited = False
        while self._waiting[stream] >= limit:
            if self.options.full == "newest":
                # What was seen last may be old: look once more before a frame is dropped.
                yield from self._look(stream)
                if self._waiting[stream] >= limit:
                    raise _NoRoom
                return
            if self.options.full == "oldest":
                yield from self._trim(stream, limit)
                return
            yield from self._look(stream)
            if self._waiting[stream] < limit:
                return
            if not waited:
                self.counts.waits += 1
                waited = True
            left = deadline - time.monotonic()
            if left <= 0:
                raise QueueFull(
                    f"{self._waiting[stream]} frames wait in {stream}, and max_waiting is {limit}"
                )
            yield Pause(min(backoff.step(), left))

    def _look(self, stream: str) -> Steps[None]:
        groups, length = yield from self.link.call(
            stream, [["XINFO", "GROUPS", stream], ["XLEN", stream]]
        )
        self._waiting[stream] = self._count_waiting(groups, length)

    def _trim(self, stream: str, limit: int) -> Steps[None]:
        """Deletes the oldest entries, so that this frame is the last of `limit` waiting ones."""
        yield from self._look(stream)
        over = self._waiting[stream] - (limit - 1)
        if over <= 0:
            return
        yield from self.link.one(stream, "XTRIM", stream, "MAXLEN", limit - 1)
        self.counts.dropped_oldest += over
        self._waiting[stream] = limit - 1

    def _count_waiting(self, groups: Any, length: Any) -> int:
        """Entries not yet acknowledged by the engine's group; all of them if there is no group."""
        if isinstance(groups, list):
            for group in groups:
                about = dict(zip(group[::2], group[1::2]))
                if about.get(b"name") == self.options.consumer_group.encode():
                    lag = about.get(b"lag")
                    if isinstance(lag, int):
                        return lag + int(about.get(b"pending", 0))
        # Redis 6.2 has no lag, and Redis 7 does not know it after XDEL in the middle.
        return length if isinstance(length, int) else 0

    # --- room in the ring

    def _free_slot(self, picture: Picture, deadline: float) -> Steps[int]:
        ring = self.options.ring
        assert ring is not None
        if self._ring is None:
            yield from self._make_ring(ring, picture, deadline)
        assert self._ring is not None
        if picture.size > self._ring.room:
            raise ImageError(
                f"an image of {picture.size} bytes, and a slot of the ring {ring.name} has room for "
                f"{self._ring.room}; Ring(room=...) makes it larger"
            )
        if ring.reuse == "lossless":
            yield from self._wait_for_slot(deadline)
        slot = self._next_slot
        self._next_slot = (slot + 1) % self._ring.slots
        self._taken.pop(slot, None)
        return slot

    def _make_ring(self, ring: Ring, picture: Picture, deadline: float) -> Steps[None]:
        room = ring.room
        if room is None:
            is_file = picture.about.width == 0
            room = 4 * picture.size if is_file else picture.size
        earlier = earlier_epoch(ring)
        if earlier and ring.reuse == "lossless":
            yield from self._wait_for_earlier(ring, earlier, deadline)
        self._ring = RingFile(ring, room)
        self._next_slot = 0

    def _wait_for_slot(self, deadline: float) -> Steps[None]:
        """Slots are used in turn, and the stream is in order: the next one is the first to be free."""
        backoff = Backoff(0.001, 0.02)
        waited = False
        while self._next_slot in self._taken:
            yield from self._let_go()
            if self._next_slot not in self._taken:
                return
            if self.options.full == "newest":
                raise _NoRoom
            if not waited:
                self.counts.waits += 1
                waited = True
            left = deadline - time.monotonic()
            if left <= 0:
                raise QueueFull(
                    f"all slots of the ring hold frames that the engine has not deleted; "
                    f"reuse='lossless' takes retention: delete ({len(self._taken)} slots)"
                )
            yield Pause(min(backoff.step(), left))

    def _let_go(self) -> Steps[None]:
        """Frees the slots whose entries are gone, asking for all of a stream at once."""
        of_stream: dict[str, list[tuple[int, bytes]]] = {}
        for slot, taken in list(self._taken.items()):
            if isinstance(taken, Parcel):
                found = yield from self._find(taken)
                if found is None:
                    del self._taken[slot]
                    continue
                taken = self._taken[slot] = (taken.stream, found)
            of_stream.setdefault(taken[0], []).append((slot, taken[1]))
        for stream, entries in of_stream.items():
            replies = yield from self.link.call(
                stream, [["XRANGE", stream, entry, entry] for _, entry in entries]
            )
            for (slot, _), reply in zip(entries, replies):
                if not raise_if_error(reply):
                    del self._taken[slot]

    def _release(self, parcel: Parcel) -> None:
        """A frame that was given up leaves its slot, unless its entry may be in the stream."""
        if parcel.slot is not None and parcel.in_doubt:
            self._taken[parcel.slot] = parcel

    def _wait_for_earlier(self, ring: Ring, epoch: str, deadline: float) -> Steps[None]:
        """Waits until no entry refers to the ring of a producer that has ended."""
        backoff = Backoff(0.01, 0.2)
        reference = f"{ring.name}/{epoch}/".encode()
        streams = [self.options.stream]
        if self.options.shards > 1:
            streams = [f"{self.options.stream}:{{{shard}}}" for shard in range(self.options.shards)]
        for stream in streams:
            start = b"-"
            while True:
                page = yield from self.link.one(stream, "XRANGE", stream, start, "+", "COUNT", 100)
                mine = next((entry for entry, fields in page if _refers(fields, reference)), None)
                if mine is None:
                    if len(page) < 100:
                        break
                    start = b"(" + page[-1][0]
                    continue
                start = mine
                left = deadline - time.monotonic()
                if left <= 0:
                    raise RingBusy(
                        16, f"frames of the earlier ring {ring.name} wait in {stream}; see reuse"
                    )
                yield Pause(min(backoff.step(), left))


class _NoRoom(Exception):
    """The frame is to be dropped."""


class _NoMemory(Exception):
    """Redis answers OOM."""


def _refers(fields: Any, reference: bytes) -> bool:
    with contextlib.suppress(ValueError, TypeError):
        at = fields[::2].index(b"ring")
        return bool(fields[2 * at + 1].startswith(reference))
    return False


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
