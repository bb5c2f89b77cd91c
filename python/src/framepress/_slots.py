"""Choice of the next slot of a ring, and when it may be used."""

from __future__ import annotations

import contextlib
import errno
import time
from dataclasses import dataclass, field
from typing import Any

from ._link import Backoff, Link, Pause, Steps, raise_if_error
from ._parcel import Counts, Options, Parcel, find_entry
from ._picture import Picture
from ._ring import Ring, RingFile, earlier_epoch
from .errors import ImageError, QueueFull, RingBusy

__all__ = ["NoRoom", "Patience", "Slots"]


class NoRoom(Exception):
    """The frame must be dropped."""


@dataclass
class Patience:
    """Waits for room until a deadline; counts one wait, however many pauses it has."""

    counts: Counts
    deadline: float
    backoff: Backoff
    _is_counted: bool = False

    def wait(self, why: str) -> Steps[None]:
        """One pause. Raises `QueueFull` with `why` after the deadline."""
        if not self._is_counted:
            self.counts.waits += 1
            self._is_counted = True
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise QueueFull(why)
        yield Pause(min(self.backoff.step(), left))


@dataclass
class Slots:
    """The ring of one producer, created with its first frame."""

    ring: Ring
    link: Link
    options: Options
    counts: Counts
    #: Stream -> id of the last entry of this producer.
    last: dict[str, bytes]
    file: RingFile | None = None
    _next_slot: int = 0
    #: Slot -> what may still refer to it: stream and entry, or a parcel in doubt.
    _taken: dict[int, tuple[str, bytes] | Parcel] = field(default_factory=dict)

    def write(self, slot: int, picture: Picture) -> tuple[int, str]:
        """Copies a picture into a slot; returns the slot and the entry's field `ring`."""
        assert self.file is not None
        return slot, self.file.write(slot, picture)

    def added(self, parcel: Parcel, entry: bytes) -> None:
        """Records the entry of a slot."""
        if parcel.slot is not None:
            self._taken[parcel.slot] = (parcel.stream, entry)

    def close(self, remove: bool) -> None:
        """Closes the file."""
        if self.file is not None:
            self.file.close(remove)
            self.file = None

    def free(self, picture: Picture, deadline: float) -> Steps[int]:
        """The next slot, made free by the rule of the ring's `reuse`.

        Raises:
            NoRoom: The frame must be dropped.
            QueueFull: No slot became free in time.
        """
        ring = self.ring
        if self.file is None:
            yield from self._make_ring(ring, picture, deadline)
        assert self.file is not None
        if picture.size > self.file.room:
            raise ImageError(
                f"an image of {picture.size} bytes, and a slot of the ring {ring.name} has room for "
                f"{self.file.room}; Ring(room=...) makes it larger"
            )
        if ring.reuse == "lossless":
            yield from self._wait_for_slot(deadline)
        slot = self._next_slot
        self._next_slot = (slot + 1) % self.file.slots
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
        self.file = RingFile(ring, room)
        self._next_slot = 0

    def _wait_for_slot(self, deadline: float) -> Steps[None]:
        """Waits for the next slot: the stream is in order, so slots become free one after the other."""
        patience = Patience(self.counts, deadline, Backoff(0.001, 0.02))
        while self._next_slot in self._taken:
            yield from self._let_go()
            if self._next_slot not in self._taken:
                return
            if self.options.full == "newest":
                raise NoRoom
            yield from patience.wait(
                f"all slots of the ring hold frames that the engine has not deleted; "
                f"reuse='lossless' takes retention: delete ({len(self._taken)} slots)"
            )

    def _let_go(self) -> Steps[None]:
        """Frees the slots whose entries are gone, with one request per stream."""
        of_stream: dict[str, list[tuple[int, bytes]]] = {}
        for slot, taken in list(self._taken.items()):
            if isinstance(taken, Parcel):
                found = yield from find_entry(self.link, taken, self.last.get(taken.stream))
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

    def release(self, parcel: Parcel) -> None:
        """Frees the slot of an abandoned frame, unless its entry may be in the stream."""
        if parcel.slot is not None and parcel.in_doubt:
            self._taken[parcel.slot] = parcel

    def _wait_for_earlier(self, ring: Ring, epoch: str, deadline: float) -> Steps[None]:
        """Waits until no entry refers to the ring of an ended producer."""
        backoff = Backoff(0.01, 0.2)
        reference = f"{ring.name}/{epoch}/".encode()
        for stream in self.options.streams():
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
                        errno.EBUSY,
                        f"frames of the earlier ring {ring.name} wait in {stream}; see reuse",
                    )
                yield Pause(min(backoff.step(), left))


def _refers(fields: Any, reference: bytes) -> bool:
    with contextlib.suppress(ValueError, TypeError):
        at = fields[::2].index(b"ring")
        return bool(fields[2 * at + 1].startswith(reference))
    return False
