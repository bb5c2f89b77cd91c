"""The work of a producer, as steps: `Producer` and `AsyncProducer` execute them."""

from __future__ import annotations

import collections
import datetime
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._link import (
    Argument,
    Backoff,
    Link,
    Lost,
    Pause,
    Steps,
    is_response_error,
    raise_if_error,
)
from ._parcel import Composer, Counts, Options, Parcel, find_entry
from ._picture import Image, Picture, picture_of
from ._slots import NoRoom, Patience, Slots
from .errors import ImageError, QueueFull, RedisRefused

__all__ = ["Sending"]


@dataclass
class Sending:
    """The state of one producer. Not for concurrent use by threads or tasks."""

    link: Link
    options: Options
    counts: Counts = field(default_factory=Counts)
    _slots: Slots | None = field(init=False, default=None)
    _composer: Composer = field(default_factory=Composer)
    _held: collections.deque[Parcel] = field(default_factory=collections.deque)
    #: Stream -> id of this producer's last entry.
    _last: dict[str, bytes] = field(default_factory=dict)
    #: Stream -> frames waiting there, at the last check.
    _waiting: dict[str, int] = field(default_factory=dict)
    _backoff: Backoff = field(default_factory=Backoff)
    _not_before: float = 0.0

    def __post_init__(self) -> None:
        if self.options.ring is not None:
            ring = self.options.ring
            self._slots = Slots(ring, self.link, self.options, self.counts, self._last)

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
            if picture.size > limit:
                raise ImageError(f"an image of {picture.size} bytes, and max_payload_bytes is {limit}")
            head = self._composer.head(camera_id, timestamp, frame_id, fields or {})
        except (ValueError, TypeError):
            self.counts.refused += 1
            raise
        self._keep_count()
        began = time.monotonic()
        # Queued callers share one timeout while Redis is away.
        since = self.link.down_since
        deadline = max((since if since is not None else began) + self.options.timeout, began)
        stream = self.options.stream_of(camera_id)
        try:
            behind = not (yield from self._prepare(stream, began, deadline))
            slot = None
            if self._slots is not None:
                number = yield from self._slot(self._slots, picture, began, deadline)
                slot = self._slots.write(number, picture)
        except NoRoom:
            self._drop_newest()
            return None
        except ImageError:
            self.counts.refused += 1
            raise
        except BaseException:
            self.counts.failed += 1
            raise
        parcel = self._composer.parcel(stream, head, picture, slot, fields or {})
        if behind:
            self._hold(parcel)
            return None
        return (yield from self._deliver(parcel, began, deadline))

    def _prepare(self, stream: str, began: float, deadline: float) -> Steps[bool]:
        """Makes room in the stream. Returns `False` if Redis is away and the frame must be held."""
        while True:
            try:
                if self.options.full != "block" and began < self._not_before:
                    raise Lost("a moment ago", may_have_happened=False)
                yield from self._flush_held()
                yield from self._make_room(stream, deadline)
                return True
            except Lost as lost:
                if self.options.full == "newest":
                    raise NoRoom from lost
                if self.options.full == "oldest":
                    return False
                yield from self._wait_after(lost, began, deadline)

    def _slot(self, slots: Slots, picture: Picture, began: float, deadline: float) -> Steps[int]:
        while True:
            try:
                return (yield from slots.free(picture, deadline))
            except Lost as lost:
                if self.options.full == "newest":
                    raise NoRoom from lost
                yield from self._wait_after(lost, began, deadline)

    def _wait_after(self, lost: Lost, began: float, deadline: float) -> Steps[None]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise self.link.gone(lost, time.monotonic() - began) from lost
        yield Pause(min(self._backoff.step(), left))

    def flush(self, timeout: float) -> Steps[int]:
        """Sends the held frames. Returns the number still held after the timeout."""
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
            reply = yield from self.link.one(self.options.stream_of(""), "PING")
        except Lost:
            return False
        return bool(reply == b"PONG")

    def connect(self, timeout: float) -> Steps[None]:
        """Waits until Redis answers."""
        began = time.monotonic()
        backoff = Backoff()
        while True:
            try:
                yield from self.link.one(self.options.stream_of(""), "PING")
                return
            except Lost as lost:
                left = began + timeout - time.monotonic()
                if left <= 0:
                    raise self.link.gone(lost, time.monotonic() - began) from lost
                yield Pause(min(backoff.step(), left))

    def close(self, remove_ring: bool) -> None:
        """Releases the ring, drops the held frames and counts them."""
        self.counts.dropped_oldest += len(self._held)
        self._held.clear()
        self._keep_count()
        if self._slots is not None:
            self._slots.close(remove_ring)

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
                    # A frame in doubt is neither sent nor dropped until Redis is back.
                    self._hold(parcel)
                    return None
                if time.monotonic() >= deadline:
                    self.counts.failed += 1
                    self._release(parcel)
                yield from self._wait_after(lost, began, deadline)
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
                # The task was cancelled while waiting for the reply.
                parcel.in_doubt = True
                self.counts.failed += 1
                self._release(parcel)
                raise
            else:
                return entry.decode()

    def _add(self, parcel: Parcel) -> Steps[bytes]:
        """Adds the entry, unless it is already in the stream."""
        stream = parcel.stream
        try:
            if parcel.in_doubt:
                found = yield from find_entry(self.link, parcel, self._last.get(stream))
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
        if self._slots is not None:
            self._slots.added(parcel, entry)

    def _release(self, parcel: Parcel) -> None:
        if self._slots is not None:
            self._slots.release(parcel)

    def _drop_newest(self) -> None:
        self.counts.dropped_newest += 1
        self._keep_count()

    def _hold(self, parcel: Parcel) -> None:
        """Keeps a frame until Redis is back. Beyond `hold` frames the oldest is dropped."""
        most = self.options.hold
        if self.options.ring is not None:
            most = min(most, self.options.ring.slots - 1)
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
        patience = Patience(self.counts, deadline, Backoff(0.002, 0.05))
        while self._waiting[stream] >= limit:
            if self.options.full == "newest":
                # The last count may be old: check again before dropping a frame.
                yield from self._look(stream)
                if self._waiting[stream] >= limit:
                    raise NoRoom
                return
            if self.options.full == "oldest":
                yield from self._trim(stream, limit)
                return
            yield from self._look(stream)
            if self._waiting[stream] < limit:
                return
            yield from patience.wait(
                f"{self._waiting[stream]} frames wait in {stream}, and max_waiting is {limit}"
            )

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
        # Redis 6.2 has no lag, and Redis 7 does not know it after an XDEL in the middle.
        return length if isinstance(length, int) else 0


class _NoMemory(Exception):
    """Redis answers OOM."""
