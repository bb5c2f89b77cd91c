"""The producer's side of a frame ring: pixels in shared memory, for an engine on the same machine.

The file format is fixed: one header page, then slots of one page and the room for pixels. A reader
accepts the pixels only if the slot's page holds the entry's generation both before and after it has
read them, so a slot may be overwritten at any time without a lock.

A file is never truncated or unlinked while its producer lives, and stays when the producer ends, as
entries that still wait in Redis refer to it. The next producer of the same name replaces it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import pathlib
import platform
import re
import secrets
import stat
import struct
import sys
import time
import weakref
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import numpy.typing as npt

from ._picture import Picture
from .errors import ConfigError, ImageError, RingBusy, RingError

__all__ = ["Ring", "RingFile", "default_directory"]

MAGIC = b"FPRING1\n"
PAGE = 4096
SLOTS_MIN, SLOTS_MAX = 2, 65536
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_HEADER = struct.Struct("<8sIIQ16s16sQ")
#: Machines on which stores become visible in order. Elsewhere only the checksum detects a torn frame.
_ORDERED = platform.machine().lower() in ("x86_64", "amd64", "i686", "i386")


@dataclass(frozen=True)
class Ring:
    """The ring that a `Producer` uses.

    Args:
        name: The file's name without `.ring`: letters, digits, `.`, `_`, `-`, at most 64.
        slots: Frames it holds, 2 to 65536. The memory is reserved at once.
        room: Bytes of a slot. By default as many as the first frame needs, or four times as many for
            an encoded file, whose size varies.
        reuse: `freshest` overwrites the oldest frame, read or not. `lossless` reuses a slot only
            when its entry is gone from the stream, which needs `retention: delete` in the engine.
        directory: By default `$RUNTIME_DIRECTORY`, `$XDG_RUNTIME_DIR/framepress` or
            `/run/framepress`, the first that is set, as in the engine. It should be on a tmpfs.
        checksum: Whether to write the XXH3-64 of the pixels, which needs the extra `xxhash`. By
            default yes if that is installed. Machines other than x86 need it.
    """

    name: str
    slots: int = 8
    room: int | None = None
    reuse: str = "freshest"
    directory: str | os.PathLike[str] | None = None
    checksum: bool | None = None

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ConfigError(f"ring {self.name!r}: letters, digits, '.', '_' and '-', at most 64")
        if not SLOTS_MIN <= self.slots <= SLOTS_MAX:
            raise ConfigError(f"ring slots {self.slots}: {SLOTS_MIN} to {SLOTS_MAX}")
        if self.room is not None and self.room < 1:
            raise ConfigError(f"ring room {self.room}: at least 1 byte")
        if self.reuse not in ("freshest", "lossless"):
            raise ConfigError(f"ring reuse {self.reuse!r}: freshest or lossless")

    def path(self) -> pathlib.Path:
        """The path of the file."""
        folder = pathlib.Path(self.directory) if self.directory else default_directory()
        return folder / f"{self.name}.ring"


def default_directory() -> pathlib.Path:
    """The directory of rings, by the engine's rule."""
    own = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if own:
        return pathlib.Path(own)
    user = os.environ.get("XDG_RUNTIME_DIR", "")
    return pathlib.Path(user) / "framepress" if user else pathlib.Path("/run/framepress")


def hash_function(wanted: bool | None) -> Callable[[Any], int] | None:
    """XXH3-64, if wanted and installed."""
    if wanted is False:
        if _ORDERED:
            return None
        raise ConfigError(f"a ring on {platform.machine()} needs its checksum")
    try:
        import xxhash
    except ImportError:
        if wanted or not _ORDERED:
            raise ConfigError(
                "the ring's checksum takes xxhash: pip install framepress[xxhash]"
            ) from None
        return None
    digest: Callable[[Any], int] = xxhash.xxh3_64_intdigest
    return digest


class RingFile:
    """A ring that this process writes, held by a lock until `close`."""

    def __init__(self, ring: Ring, room: int) -> None:
        """Creates the file. Replaces an earlier one whose producer has ended.

        Raises:
            RingBusy: Another producer lives.
            RingError: No such directory, no right, no memory.
        """
        self.slots = ring.slots
        self.room = -(-room // PAGE) * PAGE
        self.path = ring.path()
        self.epoch = secrets.token_bytes(16)
        self._hash = hash_function(ring.checksum)
        self._folder(ring)
        size = PAGE + self.slots * (PAGE + self.room)
        self._file = self._make(size)
        try:
            self._map = mmap.mmap(self._file, size, access=mmap.ACCESS_WRITE)
        except (OSError, ValueError) as error:
            os.close(self._file)
            raise RingError(errno.ENOMEM, f"the ring {self.path} cannot be mapped: {error}") from error
        self._bytes: npt.NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        self._prefix = f"{ring.name}/{self.epoch.hex()}/"
        self._generations = [0] * self.slots
        self._process = os.getpid()
        _open_rings.add(self)

    def write(self, slot: int, picture: Picture) -> str:
        """Copies a picture into a slot, and returns the entry's field `ring`.

        Raises:
            ImageError: It is larger than a slot. Nothing was written.
        """
        if picture.size > self.room:
            raise ImageError(
                f"an image of {picture.size} bytes, and a slot of the ring {self.path.name} has room "
                f"for {self.room}; Ring(room=...) makes it larger"
            )
        if os.getpid() != self._process:
            raise RingError(errno.EPERM, "a ring belongs to the process that made it, not its child")
        at = PAGE + slot * (PAGE + self.room)
        page: npt.NDArray[np.uint64] = self._bytes[at : at + 24].view("<u8")
        pixels = self._bytes[at + PAGE : at + PAGE + picture.size]
        generation = self._generations[slot] + 1
        # Each of these is one aligned store. A reader that sees the old generation twice has read
        # before the first store; one that sees the new generation twice has read after the last.
        page[0] = generation
        picture.copy_into(pixels)
        digest = self._hash(pixels) if self._hash else 0
        page[1] = picture.size
        page[2] = digest
        generation += 1
        page[0] = generation
        self._generations[slot] = generation
        return f"{self._prefix}{slot}/{generation}/{picture.size}/{digest:016x}"

    def close(self, remove: bool = False) -> None:
        """Releases the ring. Its frames stay readable unless it is removed."""
        if self._file < 0:
            return
        if remove and os.getpid() == self._process:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._bytes = np.empty(0, np.uint8)
        with contextlib.suppress(BufferError):
            self._map.close()
        os.close(self._file)
        self._file = -1

    def _folder(self, ring: Ring) -> None:
        folder = self.path.parent
        try:
            folder.mkdir(mode=0o750)
            folder.chmod(0o750)
        except FileExistsError:
            pass
        except OSError as error:
            raise RingError(
                error.errno, f"no directory for rings at {folder}: {error.strerror}"
            ) from error
        try:
            status = folder.stat()
        except OSError as error:
            raise RingError(error.errno, f"{folder}: {error.strerror}") from error
        if not stat.S_ISDIR(status.st_mode):
            raise RingError(errno.ENOTDIR, f"{folder} is no directory")
        why = _why_no_place(status)
        if why:
            raise RingError(errno.EPERM, f"no ring in {folder}: {why}")

    def _make(self, size: int) -> int:
        # A file without a name disappears with the process, whenever that ends.
        flags = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
        try:
            file = os.open(self.path.parent, flags, 0o640)
        except OSError as error:
            raise RingError(error.errno, f"{self.path}: {error.strerror}") from error
        try:
            os.fchmod(file, 0o640)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._reserve(file, size)
            os.pwrite(file, self._header(), 0)
            self._publish(file)
        except RingError:
            os.close(file)
            raise
        except OSError as error:
            os.close(file)
            raise RingError(
                error.errno, f"a ring of {size} bytes at {self.path}: {error.strerror}"
            ) from error
        except BaseException:
            os.close(file)
            raise
        return file

    def _reserve(self, file: int, size: int) -> None:
        """Reserves the memory, as a full tmpfs is an error here but a SIGBUS later."""
        try:
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            # The earlier ring of this name is replaced anyway, and may be the one that fills the tmpfs.
            _remove_left(self.path)
            os.posix_fallocate(file, 0, size)

    def _header(self) -> bytes:
        return _HEADER.pack(
            MAGIC,
            PAGE,
            self.slots,
            self.room,
            self.epoch,
            _boot_id(),
            time.time_ns() // 1000,
        )

    def _publish(self, file: int) -> None:
        """Gives the file its name. If two producers start at the same time, one is refused."""
        folder = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for _ in range(8):
                try:
                    # Unlike rename, link fails if the file exists. Python calls linkat, which follows
                    # the link in /proc, only if it is given a directory.
                    os.link(f"/proc/self/fd/{file}", self.path.name, dst_dir_fd=folder)
                    return
                except FileExistsError:
                    _remove_left(self.path)
        finally:
            os.close(folder)
        raise RingBusy(errno.EBUSY, f"other producers make the ring {self.path}")


def _why_no_place(folder: os.stat_result) -> str | None:
    """Why pixels are not safe in a folder: a foreign account could read or replace them. If another
    account's folder is writable for our group, its owner has shared it with us."""
    if folder.st_mode & stat.S_IWOTH:
        return "every user may write to it"
    ours = folder.st_uid in (0, os.geteuid())
    shared = folder.st_mode & stat.S_IWGRP and folder.st_gid in {os.getegid(), *os.getgroups()}
    return None if ours or shared else f"it belongs to another account (user id {folder.st_uid})"


def _remove_left(path: pathlib.Path) -> None:
    """Removes the ring of a producer that has ended."""
    with contextlib.suppress(FileNotFoundError):
        earlier = _take(path)
        try:
            # Only the holder of the lock on the file with this name may remove it. The file may have
            # been replaced since it was opened.
            held, named = os.fstat(earlier), path.lstat()
            if (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino):
                path.unlink()
        finally:
            os.close(earlier)


def earlier_epoch(ring: Ring) -> str | None:
    """The epoch, in hex, of a ring of this name whose producer has ended; `None` if there is none.

    Raises:
        RingBusy: Its producer lives.
    """
    try:
        file = _take(ring.path())
    except FileNotFoundError:
        return None
    except RingError:
        raise
    except OSError as error:
        raise RingError(error.errno, f"{ring.path()}: {error.strerror}") from error
    try:
        header = os.pread(file, _HEADER.size, 0)
    finally:
        os.close(file)
    if len(header) < _HEADER.size or header[:8] != MAGIC or header[40:56] != _boot_id():
        return None
    return header[24:40].hex()


def _take(path: pathlib.Path) -> int:
    """Opens and locks a ring whose producer has ended."""
    # Opening a FIFO would wait for a writer; a lock on any other file type means nothing.
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise RingError(errno.EEXIST, f"{path} exists, and is not a regular file")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise RingBusy(errno.EBUSY, f"another producer holds the ring {path}") from None
    return file


def _boot_id() -> bytes:
    text = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    return bytes.fromhex(text.strip().replace("-", ""))


_open_rings: weakref.WeakSet[RingFile] = weakref.WeakSet()


def _in_child() -> None:
    """Closes the parent's rings in a forked child, so that the lock ends with the parent."""
    for ring in list(_open_rings):
        ring.close()


os.register_at_fork(after_in_child=_in_child)

if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("framepress needs a little-endian machine")
