"""A frame ready to be sent; the settings of a producer, and its counters."""

from __future__ import annotations

import datetime
import math
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ._link import Argument, Blob, Link, Piece, Steps
from ._pb import ProcessedFrame, ProcessingStage
from ._picture import Picture
from ._ring import Ring
from .errors import ConfigError

__all__ = ["Composer", "Counts", "Options", "Parcel", "find_entry"]

#: Lua: the id of a frame's entry, among the last ones after a known entry.
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
    """Counters of a producer. Every frame passed to it is in one of the first five."""

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
    #: How often `send` had to wait for room.
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

    def streams(self) -> list[str]:
        """All input streams."""
        if self.shards == 1:
            return [self.stream]
        return [f"{self.stream}:{{{shard}}}" for shard in range(self.shards)]

    def stream_of(self, camera_id: str) -> str:
        """The stream of a camera."""
        if self.shards == 1:
            return self.stream
        try:
            import xxhash
        except ImportError:
            raise ConfigError("shards take xxhash: pip install framepress[xxhash]") from None
        return self.streams()[xxhash.xxh3_64_intdigest(camera_id.encode()) % self.shards]


@dataclass
class Parcel:
    """A frame ready to be sent."""

    stream: str
    frame_id: str
    camera_id: str
    data: Blob
    beside: tuple[Argument, ...]
    image_bytes: int
    #: Its slot, if it is in a ring.
    slot: int | None = None
    #: Whether it may already be in the stream.
    in_doubt: bool = False

    def kept(self) -> Parcel:
        """The same with its own pixels, as the caller's may change."""
        pieces = [piece if isinstance(piece, bytes) else bytes(piece) for piece in self.data.pieces]
        return replace(self, data=Blob(pieces))


@dataclass
class Composer:
    """Creates the messages and the entries of one producer."""

    _names: str = field(default_factory=lambda: f"{os.getpid():x}-{secrets.token_hex(4)}")
    _number: int = 0

    def head(
        self,
        camera_id: str,
        timestamp: float | datetime.datetime | None,
        frame_id: str | None,
        fields: Mapping[str, Argument],
    ) -> Any:
        """The message without its image.

        Raises:
            ValueError: An id, the time or a field is not valid.
            TypeError: An id is not text.
        """
        if not isinstance(camera_id, str) or not camera_id:
            raise ValueError(f"camera_id {camera_id!r}: a text that is not empty")
        own = _OWN_FIELDS.intersection(fields)
        if own:
            raise ValueError(f"fields {sorted(own)}: these are written from the arguments")
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

    def parcel(
        self,
        stream: str,
        head: Any,
        picture: Picture,
        slot: tuple[int, str] | None,
        fields: Mapping[str, Argument],
    ) -> Parcel:
        """The entry of a frame. `slot` is its number in the ring and the field `ring`."""
        beside: list[Argument] = []
        for name, value in fields.items():
            beside += (name, value)
        pieces: list[Piece]
        if slot is not None:
            beside += ("ring", slot[1])
            head.original_image.CopyFrom(picture.about)
            pieces = [head.SerializeToString()]
        else:
            # The frame's field 4, and its field 1, come last, so that the pixels need not be copied.
            about = picture.about.SerializeToString() + b"\x0a" + _varint(picture.size)
            length = len(about) + picture.size
            start = head.SerializeToString() + b"\x22" + _varint(length) + about
            pieces = [start, *picture.chunks()]
        beside += ("frame_id", head.frame_id, "camera_id", head.camera_id)
        beside += ("timestamp", repr(head.timestamp))
        return Parcel(
            stream,
            head.frame_id,
            head.camera_id,
            Blob(pieces),
            tuple(beside),
            picture.size,
            None if slot is None else slot[0],
        )


def find_entry(link: Link, parcel: Parcel, after: bytes | None) -> Steps[bytes | None]:
    """Finds the entry of a frame whose reply was lost, among those after our last known one."""
    lowest = f"({after.decode()}" if after else "-"
    (found,) = yield from link.call(
        parcel.stream,
        [["EVAL", _FIND, 1, parcel.stream, lowest, parcel.frame_id, parcel.camera_id]],
    )
    # Without the right to run scripts the producer sends the frame again.
    return found if isinstance(found, bytes) else None


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
