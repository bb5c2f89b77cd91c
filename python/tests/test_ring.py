"""The frame ring, read by an independent reader that knows only the format."""

from __future__ import annotations

import errno
import os
import pathlib
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import xxhash
from conftest import PACKAGE, Server, picture, run_python, wait_for

import framepress
from framepress import Producer, Ring, _ring
from framepress._pb import ProcessedFrame

PAGE = 4096


class Overwritten(Exception):
    pass


class RingGone(Exception):
    pass


class Reader:
    """Reads a ring with `pread` alone, as any reader may."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def header(self, name: str) -> tuple[Any, ...]:
        raw = (self.folder / f"{name}.ring").read_bytes()[:64]
        return struct.unpack("<8sIIQ16s16sQ", raw)

    def read(self, reference: bytes, between: Any = None) -> bytes:
        name, epoch, slot, generation, length, digest = reference.decode().split("/")
        try:
            file = os.open(self.folder / f"{name}.ring", os.O_RDONLY)
        except FileNotFoundError:
            raise RingGone from None
        try:
            head = struct.unpack("<8sIIQ16s16sQ", os.pread(file, 64, 0))
            magic, page, slots, room, found_epoch, boot, _ = head
            assert magic == b"FPRING1\n"
            assert page == PAGE
            assert room % PAGE == 0
            own_boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            if found_epoch.hex() != epoch or boot.hex() != own_boot.replace("-", ""):
                raise RingGone
            assert int(slot) < slots
            assert int(length) <= room
            assert os.fstat(file).st_size == PAGE + slots * (PAGE + room)
            at = PAGE + int(slot) * (PAGE + room)
            before = struct.unpack("<QQQ", os.pread(file, 24, at))
            pixels = os.pread(file, int(length), at + PAGE)
            if between is not None:
                between()
            after = struct.unpack("<QQQ", os.pread(file, 24, at))
        finally:
            os.close(file)
        wanted = (int(generation), int(length), int(digest, 16))
        if before != wanted or after != wanted or wanted[0] % 2:
            raise Overwritten
        assert digest == digest.lower()
        if wanted[2] and xxhash.xxh3_64_intdigest(pixels) != wanted[2]:
            raise Overwritten
        return pixels


def entries(server: Server, stream: str = "camera_frames") -> list[tuple[bytes, dict[bytes, bytes]]]:
    return list(server.client.xrange(stream))  # type: ignore[arg-type]


@pytest.fixture
def reader(ring_folder: pathlib.Path) -> Iterator[Reader]:
    yield Reader(ring_folder)


def test_the_file_has_its_header_and_slots(server: Server, reader: Reader) -> None:
    rgb = picture()
    with Producer(server.url, ring=Ring("cam-1", slots=5, directory=reader.folder)) as producer:
        before = time.time_ns() // 1000
        producer.send(rgb, "cam", 12.5, "f1", layout="rgb24", fields={"priority": 3})
        magic, page, slots, room, epoch, _, made = reader.header("cam-1")
        assert (magic, page, slots) == (b"FPRING1\n", 4096, 5)
        assert room == -(-rgb.size // 4096) * 4096
        assert len(set(epoch)) > 4
        assert abs(made - before) < 5_000_000
        path = reader.folder / "cam-1.ring"
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert path.stat().st_size == 4096 + 5 * (4096 + room)
        # Reserved, not sparse.
        assert path.stat().st_blocks * 512 >= path.stat().st_size
        ((_, fields),) = entries(server)
        parts = fields[b"ring"].decode().split("/")
        assert parts[:1] + parts[2:5] == ["cam-1", "0", "2", str(rgb.size)]
        assert parts[1] == epoch.hex()
        assert parts[5] == xxhash.xxh3_64_hexdigest(rgb.tobytes())
        message = ProcessedFrame.FromString(fields[b"data"])
        image = message.original_image
        assert image.compressed_data == b""
        assert (image.width, image.height, image.channels) == (160, 120, 3)
        assert image.compression_format == "rgb24"
        assert (message.frame_id, message.camera_id, message.timestamp) == ("f1", "cam", 12.5)
        assert fields[b"priority"] == b"3"
        assert len(fields[b"data"]) < 100
        assert reader.read(fields[b"ring"]) == rgb.tobytes()


def test_the_directory_is_made_private(server: Server, ring_folder: pathlib.Path) -> None:
    folder = ring_folder / "rings"
    with Producer(server.url, ring=Ring("r", directory=folder)) as producer:
        producer.send(picture(), "cam")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    folder.chmod(0o777)
    with Producer(server.url, ring=Ring("r2", directory=folder)) as producer:
        with pytest.raises(framepress.RingError, match="every user"):
            producer.send(picture(), "cam")
        assert producer.counts.failed == 1
    with Producer(server.url, ring=Ring("r", directory=ring_folder / "no" / "such")) as producer:
        with pytest.raises(framepress.RingError, match="no directory"):
            producer.send(picture(), "cam")


def test_no_ring_where_a_stranger_could_read_it(server: Server, ring_folder: pathlib.Path) -> None:
    folder = ring_folder / "theirs"
    folder.mkdir(mode=0o755)
    if os.geteuid() != 0:
        pytest.skip("only the superuser can give a directory to another account")
    os.chown(folder, 12345, 12345)
    with Producer(server.url, ring=Ring("r", directory=folder)) as producer:
        with pytest.raises(framepress.RingError, match="another account"):
            producer.send(picture(), "cam")
    assert list(folder.iterdir()) == []


def test_a_fifo_of_its_name_is_refused_at_once(server: Server, ring_folder: pathlib.Path) -> None:
    os.mkfifo(ring_folder / "r.ring")
    with Producer(server.url, ring=Ring("r", directory=ring_folder)) as producer:
        with pytest.raises(framepress.RingError, match="not a regular file"):
            producer.send(picture(), "cam")
    (ring_folder / "d.ring").mkdir()
    with Producer(server.url, ring=Ring("d", directory=ring_folder)) as producer:
        with pytest.raises(framepress.RingError, match="not a regular file"):
            producer.send(picture(), "cam")


def test_the_directory_is_found_as_the_engine_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert Ring("a").path() == pathlib.Path("/run/framepress/a.ring")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert Ring("a").path() == pathlib.Path("/run/user/7/framepress/a.ring")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/fp:/run/other")
    assert Ring("a").path() == pathlib.Path("/run/fp/a.ring")


@pytest.mark.parametrize("layout", ["bgr24", "bgra", "gray", "yuyv422", "planes", "nv12", "file"])
def test_pixels_of_every_layout_lie_as_the_entry_says(
    server: Server, reader: Reader, layout: str
) -> None:
    random = np.random.default_rng(3)
    shapes = {"bgr24": (37, 54, 3), "bgra": (37, 54, 4), "gray": (37, 53), "yuyv422": (37, 54, 2)}
    image: Any
    if layout == "planes":
        image = tuple(random.integers(0, 256, s, np.uint8) for s in ((37, 53), (19, 27), (19, 27)))
        flat = b"".join(plane.tobytes() for plane in image)
    elif layout == "nv12":
        image = tuple(random.integers(0, 256, s, np.uint8) for s in ((37, 53), (19, 27, 2)))
        flat = b"".join(plane.tobytes() for plane in image)
    elif layout == "file":
        flat = image = b"\xff\xd8\xff" + random.bytes(5000)
    else:
        image = random.integers(0, 256, shapes[layout], np.uint8)[::-1]
        flat = image.tobytes()
    arguments = {"layout": layout} if layout in shapes else {}
    with Producer(server.url, ring=Ring("r", directory=reader.folder)) as producer:
        producer.send(image, "cam", **arguments)
        ((_, fields),) = entries(server)
        assert reader.read(fields[b"ring"]) == flat


def test_a_frame_that_was_overwritten_is_noticed(server: Server, reader: Reader) -> None:
    with Producer(server.url, ring=Ring("r", slots=3, directory=reader.folder)) as producer:
        frames = [picture(seed=number) for number in range(5)]
        for frame in frames:
            producer.send(frame, "cam")
        references = [fields[b"ring"] for _, fields in entries(server)]
        for reference in references[:2]:
            with pytest.raises(Overwritten):
                reader.read(reference)
        for reference, frame in zip(references[2:], frames[2:]):
            assert reader.read(reference) == frame.tobytes()
        # Overwritten during the read.
        with pytest.raises(Overwritten):
            reader.read(references[2], lambda: producer.send(frames[0], "cam"))


def test_a_reader_never_takes_a_torn_frame(server: Server, reader: Reader) -> None:
    """Without the checksum, the generation alone must detect it."""
    ring = Ring("r", slots=2, directory=reader.folder, checksum=False)
    stop = threading.Event()
    taken = overwritten = 0
    with Producer(server.url, ring=ring) as producer:
        producer.send(np.full((300, 400, 3), 1, np.uint8), "cam")

        def write() -> None:
            number = 1
            while not stop.is_set():
                number = number % 250 + 1
                producer.send(np.full((300, 400, 3), number, np.uint8), "cam")

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        try:
            end = time.monotonic() + 2.0
            while time.monotonic() < end:
                ((_, fields),) = server.client.xrevrange("camera_frames", count=1)
                assert fields[b"ring"].endswith(b"/0000000000000000")
                try:
                    pixels = reader.read(fields[b"ring"])
                except Overwritten:
                    overwritten += 1
                    continue
                taken += 1
                assert pixels.count(pixels[:1]) == len(pixels), "two frames in one"
        finally:
            stop.set()
            thread.join()
    assert taken > 0


def test_a_full_disk_is_an_error_at_the_start(
    server: Server, ring_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with Producer(server.url, ring=Ring("r", directory=ring_folder)) as producer:
        with pytest.raises(framepress.RingError, match="No space") as caught:
            producer.send(picture(), "cam")
        assert caught.value.errno == errno.ENOSPC
    assert list(ring_folder.iterdir()) == []
    assert not server.client.exists("camera_frames")


def test_more_than_the_file_system_holds_is_refused(server: Server, ring_folder: pathlib.Path) -> None:
    """The same, refused by the system itself."""
    free = os.statvfs(ring_folder)
    slots = free.f_bavail * free.f_frsize // (1 << 30) + 16
    if slots > 65536:
        pytest.skip("the file system is too large to be filled by a ring")
    ring = Ring("r", slots=slots, room=1 << 30, directory=ring_folder)
    with Producer(server.url, ring=ring) as producer, pytest.raises(framepress.RingError):
        producer.send(picture(), "cam")
    assert list(ring_folder.iterdir()) == []


def test_one_producer_a_ring(server: Server, ring_folder: pathlib.Path) -> None:
    ring = Ring("r", directory=ring_folder)
    with Producer(server.url, ring=ring) as first, Producer(server.url, ring=ring) as second:
        first.send(picture(), "cam")
        with pytest.raises(framepress.RingBusy, match="another producer"):
            second.send(picture(), "cam")
        first.send(picture(), "cam")
    with Producer(server.url, ring=ring) as third:
        third.send(picture(), "cam")


def test_of_producers_that_start_at_once_one_has_the_ring(
    server: Server, ring_folder: pathlib.Path
) -> None:
    for number in range(10):
        ring = Ring(f"r{number % 2}", directory=ring_folder)
        producers = [Producer(server.url, ring=ring) for _ in range(6)]
        barrier = threading.Barrier(len(producers))
        won: list[Producer] = []
        lost: list[BaseException] = []

        def begin(producer: Producer) -> None:
            barrier.wait()
            try:
                producer.send(picture(16, 16), "cam")
            except framepress.RingBusy as error:
                lost.append(error)
            else:
                won.append(producer)

        threads = [threading.Thread(target=begin, args=(one,)) for one in producers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 5)
        epoch = Reader(ring_folder).header(f"r{number % 2}")[4].hex()
        slots = won[0]._sending._slots
        assert slots is not None
        assert slots.file is not None
        assert slots.file.epoch.hex() == epoch
        for producer in producers:
            producer.close()
    assert [path for path in ring_folder.iterdir() if path.suffix == ".tmp"] == []


DIES = """
import os, sys, numpy, framepress
ring = framepress.Ring("r", slots=4, directory=sys.argv[2])
producer = framepress.Producer(sys.argv[1], ring=ring)
for number in range(3):
    producer.send(numpy.full((20, 30, 3), number, numpy.uint8), "cam")
print("sent", flush=True)
sys.stdin.read() if sys.argv[3] == "wait" else os._exit(9)
"""


def killed_producer(server: Server, folder: pathlib.Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE / "src")}
    process = subprocess.Popen(
        [sys.executable, "-c", DIES, server.url, str(folder), "wait"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"sent\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stdin.close()


def test_frames_of_a_dead_producer_can_be_read_until_the_next_one(
    server: Server, reader: Reader
) -> None:
    killed_producer(server, reader.folder)
    old = [fields[b"ring"] for _, fields in entries(server)]
    for number, reference in enumerate(old):
        assert reader.read(reference) == bytes([number]) * 1800
    with Producer(server.url, ring=Ring("r", slots=4, directory=reader.folder)) as producer:
        producer.send(picture(), "cam")
        for reference in old:
            with pytest.raises(RingGone):
                reader.read(reference)


def test_a_lossless_producer_waits_for_the_frames_of_a_dead_one(server: Server, reader: Reader) -> None:
    killed_producer(server, reader.folder)
    ring = Ring("r", slots=4, directory=reader.folder, reuse="lossless")
    with Producer(server.url, ring=ring, timeout=0.3) as producer:
        with pytest.raises(framepress.RingBusy, match="earlier ring"):
            producer.send(picture(), "cam")
        old = entries(server)
        assert reader.read(old[-1][1][b"ring"]) == b"\x02" * 1800
        server.client.xdel("camera_frames", *[entry for entry, _ in old])
        producer.send(picture(), "cam")


def test_a_producer_that_dies_at_its_start_leaves_nothing(ring_folder: pathlib.Path) -> None:
    dies = """
import os, sys, framepress
from framepress._ring import RingFile
os.posix_fallocate = lambda file, at, size: os._exit(9)
RingFile(framepress.Ring("r", directory=sys.argv[1]), 4096)
"""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE / "src")}
    command = [sys.executable, "-c", dies, str(ring_folder)]
    assert subprocess.run(command, env=environment, check=False).returncode == 9
    assert list(ring_folder.iterdir()) == []


def test_a_ring_replaces_one_that_fills_the_file_system(
    server: Server, ring_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = os.posix_fallocate

    def full(file: int, at: int, size: int) -> None:
        if list(ring_folder.iterdir()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        reserve(file, at, size)

    killed_producer(server, ring_folder)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with Producer(server.url, ring=Ring("r", directory=ring_folder)) as producer:
        producer.send(picture(), "cam")


def test_another_boot_is_another_ring(server: Server, ring_folder: pathlib.Path) -> None:
    killed_producer(server, ring_folder)
    ring = Ring("r", directory=ring_folder, reuse="lossless")
    assert _ring.earlier_epoch(ring) == Reader(ring_folder).header("r")[4].hex()
    with (ring_folder / "r.ring").open("r+b") as file:
        file.seek(40)
        file.write(bytes(16))
    assert _ring.earlier_epoch(ring) is None


def test_a_lossless_ring_waits_until_entries_are_deleted(server: Server, reader: Reader) -> None:
    ring = Ring("r", slots=3, directory=reader.folder, reuse="lossless")
    with Producer(server.url, ring=ring, timeout=0.3) as producer:
        for number in range(3):
            producer.send(picture(seed=number), "cam")
        began = time.monotonic()
        with pytest.raises(framepress.QueueFull, match="retention: delete"):
            producer.send(picture(seed=3), "cam")
        assert 0.25 < time.monotonic() - began < 3
        assert producer.counts.waits == 1
        assert producer.counts.failed == 1
        kept = entries(server)
        for number, (_, fields) in enumerate(kept):
            assert reader.read(fields[b"ring"]) == picture(seed=number).tobytes()
        # Acknowledgement is not enough: only deletion shows that the pixels are not needed any more.
        server.client.xdel("camera_frames", kept[0][0])
        producer.send(picture(seed=4), "cam")
        for number, (_, fields) in enumerate(kept[1:], 1):
            assert reader.read(fields[b"ring"]) == picture(seed=number).tobytes()


def test_a_lossless_ring_goes_on_as_soon_as_there_is_room(
    server: Server, ring_folder: pathlib.Path
) -> None:
    ring = Ring("r", slots=2, directory=ring_folder, reuse="lossless")
    reader = Reader(ring_folder)
    seen: list[int] = []
    end = threading.Event()

    def engine() -> None:
        while not end.is_set():
            for entry, fields in entries(server):
                seen.append(reader.read(fields[b"ring"])[0])
                server.client.xdel("camera_frames", entry)

    thread = threading.Thread(target=engine, daemon=True)
    thread.start()
    try:
        with Producer(server.url, ring=ring) as producer:
            for number in range(200):
                producer.send(np.full((40, 40, 3), number, np.uint8), "cam")
            assert producer.counts.sent == 200
            wait_for("all are read", lambda: len(seen) == 200)
    finally:
        end.set()
        thread.join()
    assert seen == list(range(200))


def test_a_lossless_ring_may_drop_new_frames_instead(server: Server, reader: Reader) -> None:
    ring = Ring("r", slots=2, directory=reader.folder, reuse="lossless")
    with Producer(server.url, ring=ring, full="newest") as producer:
        results = [producer.send(picture(), "cam") for _ in range(5)]
        assert [result is None for result in results] == [False, False, True, True, True]
        assert producer.counts.dropped_newest == 3
        assert producer.counts.sent == 2
    with pytest.raises(framepress.ConfigError, match="freshest"):
        Producer(server.url, ring=ring, full="oldest")


def test_a_frame_larger_than_a_slot_is_refused(server: Server, ring_folder: pathlib.Path) -> None:
    with Producer(server.url, ring=Ring("r", directory=ring_folder)) as producer:
        producer.send(picture(), "cam")
        with pytest.raises(framepress.ImageError, match="room"):
            producer.send(picture(400, 400), "cam")
        assert producer.counts.refused == 1
        producer.send(picture(10, 10), "cam")
    assert server.client.xlen("camera_frames") == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"name": "../r"}, "letters"),
        ({"name": ".r"}, "letters"),
        ({"name": "r" * 65}, "letters"),
        ({"name": "r\n"}, "letters"),
        ({"name": "r", "slots": 1}, "slots"),
        ({"name": "r", "slots": 65537}, "slots"),
        ({"name": "r", "room": 0}, "room"),
        ({"name": "r", "reuse": "never"}, "reuse"),
    ],
)
def test_settings_of_a_ring_are_checked(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(framepress.ConfigError, match=reason):
        Ring(**arguments)


def test_a_link_in_place_of_the_ring_is_not_followed(server: Server, ring_folder: pathlib.Path) -> None:
    precious = ring_folder / "precious"
    precious.write_bytes(b"keep")
    (ring_folder / "r.ring").symlink_to(precious)
    with Producer(server.url, ring=Ring("r", directory=ring_folder)) as producer:
        with pytest.raises(framepress.RingError):
            producer.send(picture(), "cam")
    assert precious.read_bytes() == b"keep"


FORKS = """
import os, sys, time, numpy, framepress
image = numpy.zeros((20, 30, 3), numpy.uint8)
producer = framepress.Producer(sys.argv[1], ring=framepress.Ring("r", directory=sys.argv[2]))
producer.send(image, "cam")
child = os.fork()
if child == 0:
    try:
        producer.send(image, "cam")
    except framepress.FramepressError as error:
        print("child:", error, flush=True)
    time.sleep(600)
time.sleep(0.5)
print(child, flush=True)
os._exit(0)
"""


def test_a_forked_child_neither_writes_nor_holds_the_ring(
    server: Server, ring_folder: pathlib.Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE / "src")}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKS, server.url, str(ring_folder)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "child" in process.stdout.readline()
    child = int(process.stdout.readline())
    try:
        process.wait()
        # The child lives, and the ring is free.
        with Producer(server.url, ring=Ring("r", directory=ring_folder)) as producer:
            producer.send(picture(), "cam")
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()
    assert server.client.xlen("camera_frames") == 2


def test_without_xxhash_there_is_no_checksum(server: Server, ring_folder: pathlib.Path) -> None:
    program = """
import sys
sys.modules["xxhash"] = None
import numpy, framepress
image = numpy.zeros((20, 30, 3), numpy.uint8)
with framepress.Producer(sys.argv[1], ring=framepress.Ring("r", directory=sys.argv[2])) as producer:
    producer.send(image, "cam")
try:
    with framepress.Producer(sys.argv[1], ring=framepress.Ring("s", checksum=True)) as producer:
        producer.send(image, "cam")
except framepress.ConfigError as error:
    print(error)
"""
    done = run_python(program, server.url, str(ring_folder))
    if "needs its checksum" in done.stderr:
        pytest.skip("this machine needs the checksum")
    assert "framepress[xxhash]" in done.stdout, done.stderr
    ((_, fields),) = entries(server)
    assert fields[b"ring"].endswith(b"/0000000000000000")
    assert Reader(ring_folder).read(fields[b"ring"]) == bytes(1800)


def test_a_ring_is_removed_only_when_asked(server: Server, ring_folder: pathlib.Path) -> None:
    producer = Producer(server.url, ring=Ring("r", directory=ring_folder))
    producer.send(picture(), "cam")
    producer.close(remove_ring=True)
    assert list(ring_folder.iterdir()) == []
