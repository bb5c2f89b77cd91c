"""Reading: acknowledgement, claims, dead letters, lost groups, failover, killed consumers."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from conftest import PACKAGE, Engine, Server, picture, wait_for
from PIL import Image as Pillow
from test_producer import Proxy

import framepress
from framepress import AsyncConsumer, Consumer, Producer
from framepress._pb import ProcessedFrame

STREAM = "processed_frames"


def put(server: Server, *names: str, stream: str = STREAM) -> list[str]:
    """Results as an engine stores them, with a raw picture."""
    entries = []
    for name in names:
        message = ProcessedFrame(frame_id=name, camera_id="cam", timestamp=1.5, version="1.0")
        message.processing_stage = 5
        image = message.original_image
        image.compressed_data, image.compression_format = bytes(range(12)), "raw"
        image.width, image.height, image.channels = 2, 2, 3
        fields = {"data": message.SerializeToString(), "frame_id": name, "source_id": "7-0"}
        entries.append(server.client.xadd(stream, fields).decode())  # type: ignore
    return entries


def consumer(server: Server, **settings: Any) -> Consumer:
    return Consumer(server.url, **{"group": "g", "block_ms": 50, "idle_timeout": 0.5, **settings})


def pending(server: Server, stream: str = STREAM, group: str = "g") -> int:
    found: Any = server.client.xpending(stream, group)
    return int(found["pending"])


def letters(server: Server) -> list[dict[bytes, bytes]]:
    found: Any = server.client.xrange(f"{STREAM}:dlq")
    return [fields for _, fields in found]


def test_a_result_has_everything_that_the_engine_says(server: Server) -> None:
    rgb = picture()
    settings = {"ANALYSIS__ML_IMAGE": "true", "ANALYSIS__THUMBNAIL": "true"}
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with Engine(server.url, **settings), Producer(server.url) as producer:
        entry = producer.send(rgb, "cam", 99.5, "f", layout="rgb24", fields={"traceparent": trace})
        with Consumer(server.url, group="g", layout="rgb24", idle_timeout=30) as results:
            result = next(results)
    assert (result.frame_id, result.camera_id, result.timestamp) == ("f", "cam", 99.5)
    assert (result.source_id, result.version, result.stage) == (entry, "1.0", "OUTPUT")
    assert result.traceparent == trace
    assert result.validation_passed is True
    assert result.deliveries == 1
    assert 0 < result.processed_timestamp - result.received_timestamp < 60
    assert result.processing_time_ms > 0
    assert len(result.source_hash) == 16
    assert 0 < result.quality.score <= 1
    assert result.traffic.congestion_level in ("free_flow", "low", "medium", "high")
    assert result.rois == ()
    assert (result.original.format, result.original.quality) == ("jpeg", 85)
    assert result.processed is not None
    assert result.processed.array().shape == (640, 640, 3)
    assert result.thumbnail is not None
    assert result.thumbnail.array().shape == (128, 128, 3)
    bgr = result.original.array("bgr24")
    assert (bgr[:, :, ::-1] == result.image).all()
    assert result.image is result.image


def test_regions_of_interest_come_with_it(server: Server, tmp_path: Any) -> None:
    config = tmp_path / "engine.yaml"
    config.write_text(
        "cameras: [{id: cam, roi_boxes: [{x: 8, y: 4, width: 60, height: 50, label: lane1}]}]\n"
    )
    with Engine(server.url, config):
        with Producer(server.url) as producer:
            producer.send(picture(), "cam")
        with Consumer(server.url, group="g", idle_timeout=30) as results:
            rois = next(results).rois
    assert (rois[0].id, rois[0].x, rois[0].y, rois[0].width, rois[0].height) == ("lane1", 8, 4, 60, 50)


@pytest.mark.parametrize("library", ["simplejpeg", "cv2", "PIL"])
def test_each_library_decodes_alone(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = picture()
    files = []
    for kind in ("JPEG", "PNG", "WEBP"):
        for pixels in (rgb, rgb[:, :, 0]) if kind != "WEBP" else (rgb,):
            out = io.BytesIO()
            Pillow.fromarray(pixels).save(out, kind)
            files.append((kind.lower(), pixels, out.getvalue()))
    for other in {"simplejpeg", "cv2", "PIL"} - {library}:
        monkeypatch.setitem(sys.modules, other, None)
        if other == "PIL":
            monkeypatch.setitem(sys.modules, "PIL.Image", None)
    for kind, pixels, data in files:
        channels = 1 if pixels.ndim == 2 else 3
        stored = framepress.Picture(data, kind, 160, 120, channels, 75)
        if library == "simplejpeg" and kind != "jpeg":
            with pytest.raises(framepress.ImageError, match="installed"):
                stored.array()
            continue
        got = stored.array("rgb24")
        assert got.shape == pixels.shape
        assert np.abs(got.astype(int) - pixels.astype(int)).mean() < 4
        if channels == 3:
            assert (stored.array()[:, :, ::-1] == got).all()
        broken = framepress.Picture(data[:40], kind, 160, 120, channels, 75)
        with pytest.raises(framepress.ImageError):
            broken.array()


def test_without_a_library_bytes_are_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("simplejpeg", "cv2", "PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(framepress.ImageError, match=r"framepress\[pillow\]"):
        framepress.Picture(b"\xff\xd8\xff", "jpeg", 1, 1, 3, 0).array()
    raw = framepress.Picture(bytes(range(12)), "raw", 2, 2, 3, 0)
    assert raw.array("rgb24").ravel().tolist() == list(range(12))
    assert raw.array().ravel().tolist()[:3] == [2, 1, 0]
    with pytest.raises(framepress.ImageError, match="shape"):
        framepress.Picture(b"123", "raw", 2, 2, 3, 0).array()


def test_a_result_is_acknowledged_when_the_next_is_asked_for(server: Server) -> None:
    put(server, "a", "b", "c")
    with consumer(server) as results:
        assert next(results).frame_id == "a"
        assert pending(server) == 3
        assert next(results).frame_id == "b"
        assert pending(server) == 2
        assert [result.frame_id for result in results] == ["c"]
        assert pending(server) == 0
        assert results.counts.acknowledged == 3
    # An idle consumer does not stay in the group.
    assert server.client.xinfo_consumers(STREAM, "g") == []


def raise_in_body(results: Consumer) -> None:
    for _ in results:
        raise ZeroDivisionError


def test_a_body_that_raises_leaves_its_result_pending(server: Server) -> None:
    put(server, "a", "b")
    results = consumer(server, consumer="one")
    with pytest.raises(ZeroDivisionError), results:
        raise_in_body(results)
    assert pending(server) == 2
    # A result that was only fetched is available to others at once, as if never delivered.
    with consumer(server, claim_idle_ms=10_000, consumer="two") as results:
        result = next(results)
        assert (result.frame_id, result.deliveries) == ("b", 1)
    with consumer(server, consumer="three", claim_idle_ms=20) as results:
        result = next(results)
        assert (result.frame_id, result.deliveries) == ("a", 2)
    assert pending(server) == 0


def test_break_in_a_with_block_acknowledges(server: Server) -> None:
    put(server, "a", "b")
    with consumer(server) as results:
        for _ in results:
            break
    with consumer(server) as results:
        assert [result.frame_id for result in results] == ["b"]


def test_a_result_that_always_fails_becomes_a_dead_letter(server: Server) -> None:
    (entry, _) = put(server, "bad", "good")
    seen: list[tuple[str, int]] = []

    def handler(result: framepress.Result) -> None:
        seen.append((result.frame_id, result.deliveries))
        if result.frame_id == "bad":
            raise ValueError("cannot read the plate")

    with consumer(server, claim_idle_ms=50, attempts=3) as results:
        assert results.run(handler) == 1
        assert results.counts.failed == 3
        assert results.counts.dead_lettered == 1
    assert seen == [("bad", 1), ("good", 1), ("bad", 2), ("bad", 3)]
    assert pending(server) == 0
    (letter,) = letters(server)
    assert letter[b"frame_id"] == b"bad"
    assert letter[b"source_id"] == b"7-0"
    assert ProcessedFrame.FromString(letter[b"data"]).frame_id == "bad"
    assert letter[b"original_id"].decode() == entry
    assert letter[b"queue"] == STREAM.encode()
    assert letter[b"reason"] == b"max_deliveries"
    assert letter[b"detail"] == b"ValueError: cannot read the plate"
    assert letter[b"deliveries"] == b"3"
    assert abs(float(letter[b"failed_at"]) - time.time()) < 60


def test_poison_that_kills_its_consumers_is_capped(server: Server) -> None:
    put(server, "poison")
    for number in range(2):
        results = consumer(server, consumer=f"dead-{number}", claim_idle_ms=30)
        assert next(results).deliveries == number + 1
        results._driver.close()
        time.sleep(0.05)
    with consumer(server, attempts=2, claim_idle_ms=30) as results:
        assert list(results) == []
        assert results.counts.dead_lettered == 1
    assert letters(server)[0][b"reason"] == b"max_deliveries"
    assert pending(server) == 0


def test_what_is_no_result_becomes_a_dead_letter(server: Server) -> None:
    server.client.xadd(STREAM, {"data": b"\xff\xff\xff", "camera_id": "cam"})
    server.client.xadd(STREAM, {"other": "1"})
    put(server, "good")
    with consumer(server) as results:
        assert [result.frame_id for result in results] == ["good"]
    assert [letter[b"reason"] for letter in letters(server)] == [b"undecodable"] * 2
    assert letters(server)[0][b"camera_id"] == b"cam"


def test_a_result_can_be_rejected_or_dropped(server: Server) -> None:
    put(server, "a", "b")
    with consumer(server, dead_letters=False, attempts=1) as results:
        results.reject(next(results), "too_dark", "mean 3")
        results.retry(next(results), ValueError("x"))
    assert pending(server) == 0
    assert letters(server) == []
    put(server, "c")
    with consumer(server) as results:
        results.reject(next(results), "too_dark", "mean 3")
    assert letters(server)[0][b"reason"] == b"too_dark"
    assert letters(server)[0][b"detail"] == b"mean 3"


def test_without_scripts_dead_letters_work_all_the_same(server: Server) -> None:
    server.client.acl_setuser(
        "plain", enabled=True, passwords=["+p"], keys=["*"], commands=["+@all", "-eval"]
    )
    put(server, "a")
    url = server.url.replace("://", "://plain:p@")
    with Consumer(url, group="g", block_ms=50, idle_timeout=0.3) as results:
        results.reject(next(results))
    assert len(letters(server)) == 1
    assert pending(server) == 0
    server.client.acl_deluser("plain")


def test_what_was_trimmed_is_counted_and_never_stuck(server: Server) -> None:
    put(server, "a", "b", "c")
    results = consumer(server, consumer="dead")
    next(results)
    results._driver.close()
    server.client.xtrim(STREAM, maxlen=1, approximate=False)
    with consumer(server, claim_idle_ms=1) as results:
        assert [result.frame_id for result in results] == ["c"]
        assert results.counts.lost_to_trim == 2
    assert pending(server) == 0


def test_two_groups_each_see_everything(server: Server) -> None:
    put(server, "a", "b")
    for group in ("g1", "g2"):
        with consumer(server, group=group) as results:
            assert [result.frame_id for result in results] == ["a", "b"]
    with consumer(server, group="late", start="$", idle_timeout=3) as results:
        threading.Timer(0.3, put, (server, "new")).start()
        assert next(results).frame_id == "new"


def test_a_restart_finds_what_it_had_in_hand(server: Server) -> None:
    put(server, "a", "b", "c")
    first = consumer(server, consumer="box-1", batch=2)
    assert next(first).frame_id == "a"
    first._driver.close()
    with consumer(server, consumer="box-1") as results:
        assert [(r.frame_id, r.deliveries) for r in results] == [("a", 2), ("b", 2), ("c", 1)]


def test_a_slow_consumer_does_not_repeat_what_was_claimed(server: Server) -> None:
    put(server, "a", "b")
    slow = consumer(server, claim_idle_ms=100)
    assert next(slow).frame_id == "a"
    time.sleep(0.2)
    with consumer(server, claim_idle_ms=100, consumer="other") as other:
        assert [result.frame_id for result in other] == ["a", "b"]
    with slow:
        assert list(slow) == []
        assert slow.counts.acknowledged_elsewhere == 1
        assert slow.counts.taken_over == 1


def test_a_lost_answer_to_a_read_loses_nothing(server: Server) -> None:
    put(server, *(f"{n}" for n in range(40)))
    proxy = Proxy(server.port)
    try:
        seen = []
        with Consumer(
            proxy.url, group="g", block_ms=50, idle_timeout=1.0, batch=8, claim_idle_ms=60_000
        ) as results:
            for result in results:
                seen.append((result.frame_id, result.deliveries))
                if len(seen) % 10 == 0:
                    proxy.cut_answers = 1
            assert results.counts.reconnects >= 3
        assert sorted(int(name) for name, _ in seen) == list(range(40))
        # A reply that never arrived is not a failed attempt.
        assert {count for _, count in seen} == {1}
    finally:
        proxy.close()
    assert pending(server) == 0


def test_iteration_survives_redis_being_away(own_server: Server) -> None:
    put(own_server, "a", "b")
    with consumer(own_server, idle_timeout=20) as results:
        assert next(results).frame_id == "a"
        own_server.stop()
        threading.Timer(0.5, own_server.start).start()
        assert next(results).frame_id == "b"
        assert results.counts.reconnects >= 1
    own_server.stop()
    with consumer(own_server, timeout=0.3) as results:
        with pytest.raises(framepress.RedisUnavailable):
            next(results)
    own_server.start()


@pytest.mark.parametrize("how", ["group", "stream", "flush"])
def test_iteration_survives_the_loss_of_its_group(server: Server, how: str) -> None:
    put(server, "a", "b", "c", "d")
    with consumer(server, batch=2, idle_timeout=3) as results:
        names = [next(results).frame_id for _ in range(3)]
        if how == "group":
            server.client.xgroup_destroy(STREAM, "g")
        elif how == "stream":
            server.client.delete(STREAM)
        else:
            server.client.flushall()
        put(server, "e")
        names += [next(results).frame_id for _ in range(1 if how != "group" else 2)]
        while names[-1] != "e":
            names.append(next(results).frame_id)
        assert results.counts.groups_made_again == 1
    # Entries only in the lost stream are held here or lost with it; none comes twice.
    assert names == ["a", "b", "c", "d", "e"]
    assert pending(server) == 0


def test_a_lost_group_keeps_what_a_dead_consumer_had(server: Server) -> None:
    put(server, "a", "b", "c")
    dead = consumer(server, consumer="dead", batch=1)
    assert next(dead).frame_id == "a"
    dead._driver.close()
    with consumer(server, idle_timeout=2, claim_idle_ms=400) as results:
        assert next(results).frame_id == "b"
        server.client.xgroup_destroy(STREAM, "g")
        assert sorted(r.frame_id for r in results) == ["a", "c"]
    assert pending(server) == 0


KILLED = """
import sys, time, framepress
with framepress.Consumer(
    sys.argv[1], group="g", block_ms=50, claim_idle_ms=500, batch=8, idle_timeout=float(sys.argv[2])
) as consumer:
    for result in consumer:
        time.sleep(0.005)
        print(result.frame_id, flush=True)
"""


def test_of_two_consumers_one_is_killed(server: Server) -> None:
    """Nothing is lost, and only results that the killed one held come twice."""
    frames = [f"{number}" for number in range(400)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE / "src")}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", KILLED, server.url, "8"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    def both_read() -> bool:
        return bool(server.client.info("clients")["blocked_clients"] == 2)

    first, second = start(), start()
    wait_for("both read", both_read)
    put(server, *frames[:200])
    assert first.stdout is not None
    assert second.stdout is not None
    seen_first = [first.stdout.readline().strip() for _ in range(20)]
    first.send_signal(signal.SIGKILL)
    put(server, *frames[200:])
    seen_first += first.stdout.read().split()
    seen_second = second.stdout.read().split()
    first.wait()
    assert second.wait() == 0
    for process in (first, second):
        assert process.stdout is not None
        process.stdout.close()
    assert set(seen_first) | set(seen_second) == set(frames)
    assert len(seen_second) == len(set(seen_second))
    # At most the one that was printed and not yet acknowledged.
    assert len(set(seen_first) & set(seen_second)) <= 1
    assert pending(server) == 0


def test_several_shards_are_read_by_one(server: Server) -> None:
    for shard in range(3):
        put(server, f"{shard}-a", f"{shard}-b", stream=f"{STREAM}:{{{shard}}}")
    with consumer(server, shards=3) as results:
        assert len([result for result in results if result.stream.endswith("}")]) == 6
    for shard in range(3):
        assert pending(server, f"{STREAM}:{{{shard}}}") == 0


def test_stop_ends_the_iteration(server: Server) -> None:
    put(server, "a")
    with consumer(server, idle_timeout=None) as results:
        threading.Timer(0.3, results.stop).start()
        assert [result.frame_id for result in results] == ["a"]
    assert pending(server) == 0


def test_asyncio_reads_the_same(server: Server) -> None:
    put(server, "a", "bad", "c")

    async def main() -> None:
        seen = []

        async def handler(result: framepress.Result) -> None:
            seen.append(result.frame_id)
            assert result.image.shape == (2, 2, 3)
            if result.frame_id == "bad":
                raise ValueError

        settings: dict[str, Any] = {"group": "g", "block_ms": 50, "claim_idle_ms": 50}
        async with AsyncConsumer(server.url, idle_timeout=0.5, attempts=2, **settings) as results:
            assert await results.run(handler) == 2
        assert seen == ["a", "bad", "c", "bad"]
        put(server, "d", "e")
        async with AsyncConsumer(server.url, **settings) as results:
            async for result in results:
                if result.frame_id == "e":
                    break
            # A wait can be cancelled, and iteration then continues.
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(results.__anext__(), 0.2)
            put(server, "f")
            assert (await results.__anext__()).frame_id == "f"
            results.stop()
            assert [r async for r in results] == []

    asyncio.run(main())
    assert pending(server) == 0
    assert len(letters(server)) == 1


def test_a_wait_ends_whenever_it_is_cancelled(server: Server) -> None:
    """The cancellation comes while it sends, while it reads, or in between."""

    async def main() -> None:
        async with AsyncConsumer(server.url, group="g", block_ms=1, claim_idle_ms=50) as results:
            for number in range(400):
                wait = asyncio.ensure_future(results.__anext__())
                await asyncio.sleep(0.0005 + number * 0.00001)
                wait.cancel()
                await asyncio.wait({wait}, timeout=5)
                assert wait.cancelled(), f"attempt {number} goes on"

    asyncio.run(main())


def test_nothing_is_lost_between_producer_engine_and_consumer(own_server: Server) -> None:
    """Redis is restarted twice while frames flow."""
    with Engine(own_server.url, REDIS_QUEUE__TIMEOUT="5"):
        seen: dict[str, int] = {}
        done = threading.Event()

        def read() -> None:
            with consumer(own_server, idle_timeout=None, claim_idle_ms=2000) as results:
                for result in results:
                    seen[result.frame_id] = seen.get(result.frame_id, 0) + 1
                    if len(seen) == 120:
                        results.stop()
            done.set()

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        with Producer(own_server.url, timeout=60) as producer:
            for number in range(120):
                producer.send(picture(48, 64), f"cam{number % 3}", frame_id=f"{number}")
                if number in (40, 80):
                    own_server.stop()
                    own_server.start()
            assert producer.counts.sent == 120
        wait_for("every result is there", lambda: len(seen) == 120)
        thread.join(30)
    assert set(seen) == {f"{number}" for number in range(120)}
    assert set(seen.values()) == {1}


@pytest.mark.parametrize(
    "settings", [{"group": ""}, {"batch": 0}, {"block_ms": 0}, {"attempts": 0}, {"layout": "gray"}]
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(framepress.ConfigError, match=next(iter(settings))):
        Consumer("redis://localhost", **{"group": "g", **settings})
