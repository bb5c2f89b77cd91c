"""Sending: policies without room or without Redis, reconnecting, threads, tasks, shards."""

from __future__ import annotations

import asyncio
import csv
import datetime
import re
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest
import redis
from conftest import ROOT, Server, free_port, picture, wait_for

import framepress
from framepress import AsyncProducer, Producer
from framepress._pb import ProcessedFrame

FRAME = picture(24, 32)


def frames(server: Server, stream: str = "camera_frames") -> list[str]:
    found: Any = server.client.xrange(stream)
    return [fields[b"frame_id"].decode() for _, fields in found]


#: The reply to XADD.
_ENTRY = re.compile(rb"\d-\d+\r\n\Z")


class Proxy:
    """Forwards to a server; `swallow` forwards a request, withholds its reply and closes the
    connection.

    `cut_answers` does so in the middle of a long reply.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.swallow = 0
        self.cut_answers = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}/0"
        self.closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self.closed:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            for source, sink, is_answer in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, sink, is_answer), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if is_answer and self.swallow > 0 and _ENTRY.search(data):
                    self.swallow -= 1
                    break
                if is_answer and self.cut_answers > 0 and len(data) > 300:
                    self.cut_answers -= 1
                    sink.sendall(data[:200])
                    break
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()

    def close(self) -> None:
        self.closed = True
        self.listener.close()


def test_the_entry_has_its_fields_and_no_others(server: Server) -> None:
    with Producer(server.url) as producer:
        moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 250000, datetime.timezone.utc)
        entry = producer.send(FRAME, "cam", moment, "f-1", fields={"priority": 2, "traceparent": "t"})
        producer.send(FRAME, "cam")
        producer.send(FRAME, "cam")
    first, second, third = [fields for _, fields in server.client.xrange("camera_frames")]  # type: ignore
    assert entry == server.client.xrange("camera_frames")[0][0].decode()  # type: ignore
    assert set(first) == {b"data", b"frame_id", b"camera_id", b"timestamp", b"priority", b"traceparent"}
    assert float(first[b"timestamp"]) == 1767323045.25
    message = ProcessedFrame.FromString(first[b"data"])
    assert (message.frame_id, message.camera_id, message.timestamp) == ("f-1", "cam", 1767323045.25)
    assert message.version == "1.0"
    assert message.processing_stage == 1
    image = message.original_image
    assert image.compressed_data == FRAME.tobytes()
    assert (image.compression_format, image.width, image.height, image.channels) == ("bgr24", 32, 24, 3)
    assert second[b"frame_id"] != third[b"frame_id"]
    assert abs(float(second[b"timestamp"]) - time.time()) < 60


def test_block_waits_for_redis_and_goes_on(own_server: Server) -> None:
    with Producer(own_server.url, timeout=30) as producer:
        producer.send(FRAME, "cam", frame_id="a")
        own_server.stop()
        threading.Timer(0.7, own_server.start).start()
        producer.send(FRAME, "cam", frame_id="b")
        producer.send(FRAME, "cam", frame_id="c")
        assert producer.counts.sent == 3
        assert producer.counts.reconnects >= 1
    assert frames(own_server) == ["a", "b", "c"]


def test_block_gives_up_after_its_timeout() -> None:
    with Producer(f"redis://user:secret@127.0.0.1:{free_port()}/0", timeout=0.4) as producer:
        began = time.monotonic()
        with pytest.raises(framepress.RedisUnavailable) as caught:
            producer.send(FRAME, "cam")
        assert 0.3 < time.monotonic() - began < 5
        assert "secret" not in str(caught.value)
        assert producer.counts.failed == 1
        with pytest.raises(ConnectionError):
            producer.connect(0.1)


def test_a_silent_server_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with Producer(url, timeout=0.3, socket_timeout=0.3) as producer:
            began = time.monotonic()
            with pytest.raises(framepress.RedisUnavailable):
                producer.send(FRAME, "cam")
            assert time.monotonic() - began < 5


def test_newest_drops_while_redis_is_away(own_server: Server) -> None:
    with Producer(own_server.url, full="newest") as producer:
        producer.send(FRAME, "cam", frame_id="a")
        own_server.stop()
        began = time.monotonic()
        results = [producer.send(FRAME, "cam", frame_id=f"lost-{n}") for n in range(50)]
        assert time.monotonic() - began < 5
        own_server.start()
        wait_for("it sends again", lambda: producer.send(FRAME, "cam", frame_id="b"))
        counts = producer.counts
        # The first was in flight when the connection broke, so it is neither sent nor dropped yet.
        assert results.count(None) == 50
        total = counts.sent + counts.dropped_newest + counts.held
        assert counts.sent >= 2
        assert total >= 52
    assert frames(own_server)[0] == "a"
    assert frames(own_server)[-1] == "b"
    assert len(frames(own_server)) == producer.counts.sent


def test_oldest_keeps_the_last_frames_until_redis_is_back(own_server: Server) -> None:
    with Producer(own_server.url, full="oldest", hold=4) as producer:
        producer.send(FRAME, "cam", frame_id="a")
        own_server.stop()
        image = FRAME.copy()
        for number in range(10):
            image[:] = number
            assert producer.send(image, "cam", frame_id=f"{number}") is None
        assert producer.counts.held == 4
        assert producer.counts.dropped_oldest == 6
        own_server.start()
        assert producer.flush(30) == 0
        assert producer.counts.sent == 5
        assert producer.counts.held == 0
    assert frames(own_server) == ["a", "6", "7", "8", "9"]
    # Held frames are copies, as the caller may reuse its array.
    for _, fields in own_server.client.xrange("camera_frames")[1:]:  # type: ignore
        message = ProcessedFrame.FromString(fields[b"data"])
        assert set(message.original_image.compressed_data) == {int(message.frame_id)}


def test_oldest_with_a_ring_holds_entries_only(own_server: Server, ring_folder: Any) -> None:
    ring = framepress.Ring("r", slots=4, directory=ring_folder)
    with Producer(own_server.url, full="oldest", ring=ring) as producer:
        producer.send(FRAME, "cam", frame_id="a")
        own_server.stop()
        for number in range(10):
            producer.send(FRAME, "cam", frame_id=f"{number}")
        assert producer.counts.held == 3
        own_server.start()
        assert producer.flush(30) == 0
    assert frames(own_server) == ["a", "7", "8", "9"]


@pytest.mark.parametrize("full", ["block", "newest", "oldest"])
def test_a_lost_answer_neither_loses_nor_doubles(server: Server, full: str) -> None:
    proxy = Proxy(server.port)
    try:
        with Producer(proxy.url, full=full) as producer:
            producer.send(FRAME, "cam", frame_id="first")
            for number in range(5):
                proxy.swallow = 1
                producer.send(FRAME, "cam", frame_id=f"{number}")
            producer.flush(30)
            counts = producer.counts
            # The others pause before they retry after a lost connection.
            assert counts.reconnects == 5 if full == "block" else counts.reconnects >= 1
            assert counts.resent == 0
            assert counts.held == 0
            assert counts.sent + counts.dropped_newest + counts.dropped_oldest == 6
    finally:
        proxy.close()
    found = frames(server)
    assert len(found) == len(set(found)) == producer.counts.sent
    if full != "newest":
        assert found == ["first", "0", "1", "2", "3", "4"]


def test_without_scripts_a_frame_is_sent_again(server: Server) -> None:
    server.client.acl_setuser(
        "plain", enabled=True, passwords=["+p"], keys=["*"], commands=["+@all", "-eval"]
    )
    proxy = Proxy(server.port)
    try:
        with Producer(proxy.url.replace("://", "://plain:p@")) as producer:
            proxy.swallow = 1
            producer.send(FRAME, "cam", frame_id="a")
            assert producer.counts.resent == 1
        assert frames(server) == ["a", "a"]
    finally:
        proxy.close()
        server.client.acl_deluser("plain")


def test_what_will_not_pass_is_told_at_once(server: Server) -> None:
    server.client.acl_setuser(
        "reader", enabled=True, passwords=["+p"], keys=["*"], commands=["+@read", "+ping"]
    )
    began = time.monotonic()
    for url, reason in (
        (server.url.replace("://", "://reader:p@"), "permission"),
        (server.url.replace("://", "://reader:wrong@"), "WRONGPASS|invalid"),
    ):
        with Producer(url) as producer:
            with pytest.raises(framepress.RedisRefused, match=reason):
                producer.send(FRAME, "cam")
            assert producer.counts.failed == 1
    server.client.set("camera_frames", "text")
    with Producer(server.url) as producer, pytest.raises(framepress.RedisRefused, match="WRONGTYPE"):
        producer.send(FRAME, "cam")
    assert time.monotonic() - began < 10
    server.client.acl_deluser("reader")


def test_no_memory_is_no_room(own_server: Server) -> None:
    with Producer(own_server.url, timeout=0.3) as producer:
        producer.send(FRAME, "cam", frame_id="a")
        own_server.client.config_set("maxmemory", 1)
        with pytest.raises(framepress.QueueFull, match="no memory"):
            producer.send(FRAME, "cam")
        threading.Timer(0.1, lambda: own_server.client.config_set("maxmemory", 0)).start()
        producer.send(FRAME, "cam", frame_id="b")
    assert frames(own_server) == ["a", "b"]


def group_of(server: Server) -> None:
    server.client.xgroup_create("camera_frames", "stream_processor", "0", mkstream=True)


def test_block_waits_for_room_in_the_stream(server: Server) -> None:
    group_of(server)
    with Producer(server.url, max_waiting=3, timeout=0.3) as producer:
        for number in range(3):
            producer.send(FRAME, "cam", frame_id=f"{number}")
        with pytest.raises(framepress.QueueFull, match="max_waiting is 3"):
            producer.send(FRAME, "cam")
        read: Any = server.client.xreadgroup("stream_processor", "c", {"camera_frames": ">"}, count=1)
        # A frame in work still counts as waiting.
        with pytest.raises(framepress.QueueFull):
            producer.send(FRAME, "cam")
        server.client.xack("camera_frames", "stream_processor", read[0][1][0][0])
        producer.send(FRAME, "cam", frame_id="3")
        assert producer.counts.waits == 2
        assert producer.counts.failed == 2
    assert frames(server) == ["0", "1", "2", "3"]


def test_block_waits_for_redis_before_it_looks_for_room(own_server: Server, ring_folder: Any) -> None:
    ring = framepress.Ring("r", slots=2, directory=ring_folder, reuse="lossless")
    for settings in ({"max_waiting": 100}, {"ring": ring}):
        with Producer(own_server.url, **settings) as producer:  # type: ignore[arg-type]
            producer.send(FRAME, "cam")
            producer.send(FRAME, "cam")
            own_server.client.delete("camera_frames")
            own_server.stop()
            threading.Timer(0.5, own_server.start).start()
            assert producer.send(FRAME, "cam") is not None
            assert producer.counts.sent == 3


def test_newest_and_oldest_bound_the_stream(server: Server) -> None:
    group_of(server)
    with Producer(server.url, max_waiting=3, full="newest") as producer:
        for number in range(6):
            producer.send(FRAME, "cam", frame_id=f"{number}")
        assert producer.counts.dropped_newest == 3
    assert frames(server) == ["0", "1", "2"]
    with Producer(server.url, max_waiting=3, full="oldest") as producer:
        for number in range(6, 11):
            producer.send(FRAME, "cam", frame_id=f"{number}")
        assert producer.counts.dropped_oldest == 5
        assert producer.counts.sent == 5
    assert frames(server) == ["8", "9", "10"]
    with Producer(server.url, max_stream_length=1) as producer:
        for _ in range(300):
            producer.send(FRAME[:2, :2], "cam")
    assert len(frames(server)) < 250


def test_threads_share_a_producer(server: Server) -> None:
    with Producer(server.url) as producer:

        def send(name: str) -> None:
            for number in range(50):
                producer.send(FRAME, name, frame_id=f"{name}-{number}")

        threads = [threading.Thread(target=send, args=(f"cam{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert producer.counts.sent == 200
    found = frames(server)
    assert len(set(found)) == 200
    for name in ("cam0", "cam3"):
        assert [f for f in found if f.startswith(name)] == [f"{name}-{n}" for n in range(50)]


def test_asyncio_sends_the_same(server: Server, ring_folder: Any) -> None:
    async def main() -> None:
        async with AsyncProducer(server.url) as producer:
            await producer.connect()
            entries = await asyncio.gather(
                *(producer.send(FRAME, "cam", frame_id=f"{n}") for n in range(100))
            )
            assert len(set(entries)) == 100
            assert await producer.ping()
            with pytest.raises(framepress.ImageError):
                await producer.send(FRAME.astype(float), "cam")
        ring = framepress.Ring("r", directory=ring_folder)
        async with AsyncProducer(server.url, ring=ring) as producer:
            await producer.send(FRAME, "cam", frame_id="ring")
        with pytest.raises(framepress.FramepressError, match="closed"):
            await producer.send(FRAME, "cam")

    asyncio.run(main())
    assert frames(server) == [f"{n}" for n in range(100)] + ["ring"]


def test_asyncio_reconnects_and_gives_up(own_server: Server) -> None:
    async def main() -> None:
        async with AsyncProducer(own_server.url, timeout=30) as producer:
            await producer.send(FRAME, "cam", frame_id="a")
            own_server.stop()
            sending = asyncio.create_task(producer.send(FRAME, "cam", frame_id="b"))
            await asyncio.sleep(0.3)
            await asyncio.get_running_loop().run_in_executor(None, own_server.start)
            await sending
            # After a task is cancelled the producer still works.
            own_server.stop()
            sending = asyncio.create_task(producer.send(FRAME, "cam", frame_id="cancelled"))
            await asyncio.sleep(0.2)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await asyncio.get_running_loop().run_in_executor(None, own_server.start)
            await producer.send(FRAME, "cam", frame_id="c")
        own_server.stop()
        async with AsyncProducer(own_server.url, timeout=0.3) as producer:
            began = time.monotonic()
            # Queued callers share one timeout.
            results = await asyncio.gather(
                *(producer.send(FRAME, "cam") for _ in range(20)), return_exceptions=True
            )
            assert all(isinstance(r, framepress.RedisUnavailable) for r in results)
            assert time.monotonic() - began < 5
        own_server.start()

    asyncio.run(main())
    assert frames(own_server) == ["a", "b", "c"]


def test_a_camera_has_its_shard(server: Server) -> None:
    table = (ROOT / "tests" / "topology" / "shards.tsv").read_text(encoding="utf-8").splitlines()
    rows = list(csv.reader(table[1:], delimiter="\t"))
    with Producer(server.url, shards=4) as producer:
        for camera, *_ in rows:
            if camera:
                producer.send(FRAME, camera, frame_id=camera)
    for camera, _, _, _, shard, *_ in rows:
        if camera:
            assert camera in frames(server, f"camera_frames:{{{shard}}}")


def test_a_unix_socket_is_a_server(tmp_path: Any) -> None:
    server = Server(tmp_path, "--unixsocket", str(tmp_path / "r.sock"))
    try:
        with Producer(f"redis+unix://{tmp_path}/r.sock?db=2") as producer:
            producer.send(FRAME, "cam")
        client = redis.Redis(port=server.port, db=2)
        assert client.xlen("camera_frames") == 1
        client.close()

        async def main() -> None:
            async with AsyncProducer(f"unix://{tmp_path}/r.sock?db=2") as producer:
                await producer.send(FRAME, "cam")

        asyncio.run(main())
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("localhost:6379", "no scheme"),
        ("http://localhost", "begins with http"),
        ("redis://a,b", "several hosts"),
        ("redis://u:secret@host:notaport/0", "valid host or port"),
        ("redis-sentinel://s1,s2", "which service"),
        ("embedded://", "no other program"),
    ],
)
def test_urls_that_name_no_server_are_refused(url: str, reason: str) -> None:
    with pytest.raises(framepress.ConfigError, match=reason) as caught:
        Producer(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [{"full": "all"}, {"timeout": -1}, {"max_waiting": -1}, {"shards": 0}, {"hold": 0}],
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(framepress.ConfigError, match=next(iter(settings))):
        Producer("redis://localhost", **settings)


def test_the_environment_names_the_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_QUEUE__URL", server.url)
    with Producer() as producer:
        assert producer.ping()
        producer.send(np.zeros((2, 2), np.uint8), "cam")
    assert len(frames(server)) == 1
