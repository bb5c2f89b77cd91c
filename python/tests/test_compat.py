"""Old programs: the names, the keys, the configurations, and unchanged programs."""

from __future__ import annotations

import asyncio
import base64
import datetime
import io
import json
import os
import pathlib
import time
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Engine, Server, free_port, picture, run_python, wait_for
from PIL import Image as Pillow

import framepress
from framepress._pb import ProcessedFrame
from framepress.compat import StreamProcessor, create_stream_processor

HERE = pathlib.Path(__file__).parent
#: A nested configuration of the replaced system, which the engine's own tests read as well.
NESTED = ROOT / "tests" / "it" / "cli" / "old" / "config.json"

STATS_KEYS = {
    "active_streams",
    "performance_metrics",
    "queue_manager_available",
    "serialization_enabled",
    "serialization_metrics",
}
PERFORMANCE_KEYS = {
    "frames_processed",
    "frames_rejected",
    "avg_processing_time",
    "throughput_fps",
    "error_count",
}
SERIALIZATION_KEYS = {
    "avg_serialization_time_ms",
    "total_serializations",
    "avg_compression_ratio",
    "compression_enabled",
}
STREAM_KEYS = {
    "camera_id",
    "status",
    "location",
    "resolution",
    "fps",
    "total_frames_processed",
    "avg_processing_latency_ms",
    "quality_score_avg",
    "error_rate",
    "last_frame_time",
}
HEALTH_KEYS = {"status", "redis_connected", "queue_count", "total_pending"}


def config_of(server: Server, **more: Any) -> dict[str, Any]:
    return {"redis_url": server.url, "stats": {"addr": f"127.0.0.1:{free_port()}"}, **more}


def sent(server: Server, frame: dict[str, Any], **arguments: Any) -> Any:
    """Sends a frame through the processor; returns the message and the fields of its entry."""

    async def main() -> str:
        async with StreamProcessor(config_of(server)) as processor:
            return await processor.enqueue_frame_for_processing(frame, **arguments)

    entry = asyncio.run(main())
    found: Any = server.client.xrange("camera_frames", entry, entry)
    ((_, fields),) = found
    return ProcessedFrame.FromString(fields[b"data"]), fields


def test_the_numbers_come_from_the_engine(server: Server) -> None:
    camera = {
        "camera_id": "cam",
        "location": "Main St",
        "coordinates": (52.5, 13.4),
        "resolution": (160, 120),
        "fps": 30,
        "quality_threshold": 0.5,
    }

    async def main() -> None:
        with Engine(server.url) as engine:
            config = config_of(server, stats={"addr": f"127.0.0.1:{engine.stats_port}"})
            processor = await create_stream_processor(config)
            assert await processor.register_stream(camera) is True
            wait_for("the engine answers", lambda: processor._stats._ask("/api/v1/system/metrics"))
            status: Any = processor.get_stream_status("cam")
            assert (status["status"], status["total_frames_processed"]) == ("inactive", 0)
            for number in range(5):
                entry = await processor.enqueue_frame_for_processing(
                    {
                        "frame_id": f"f{number}",
                        "camera_id": "cam",
                        "timestamp": time.time(),
                        "image_array": picture().tolist(),
                    }
                )
                assert "-" in entry
            server.client.xadd("camera_frames", {"data": "nonsense", "camera_id": "cam"})

            def counted() -> Any:
                stats = processor.get_processing_stats()
                done = stats["performance_metrics"]
                found = processor.get_stream_status("cam")
                ready = found is not None and found["total_frames_processed"] == 5
                return ready and done["frames_rejected"] == 1 and done["frames_processed"] == 5

            wait_for("the figures", counted)
            stats = processor.get_processing_stats()
            assert set(stats) == STATS_KEYS | {"status"}
            assert stats["status"] == "available"
            assert set(stats["performance_metrics"]) == PERFORMANCE_KEYS
            assert set(stats["serialization_metrics"]) == SERIALIZATION_KEYS
            assert stats["active_streams"] == 1
            assert stats["performance_metrics"]["avg_processing_time"] > 0
            assert stats["queue_manager_available"] is True
            assert stats["serialization_enabled"] is True
            assert stats["serialization_metrics"]["total_serializations"] == 5
            assert 0 < stats["serialization_metrics"]["avg_compression_ratio"] < 0.5
            assert stats["serialization_metrics"]["compression_enabled"] is True
            status = processor.get_stream_status("cam")
            assert set(status) == STREAM_KEYS
            assert status["status"] == "active"
            assert (status["location"], status["fps"]) == ("Main St", 30)
            assert status["resolution"] == (160, 120)
            assert status["avg_processing_latency_ms"] > 0
            assert 0 < status["quality_score_avg"] <= 1
            assert abs(status["last_frame_time"] - time.time()) < 60
            assert 0 <= status["error_rate"] < 0.5
            assert processor.get_stream_status("never seen / ünknown") is None

            async def healthy() -> Any:
                return await processor.get_queue_health()

            health = await healthy()
            assert set(health) == HEALTH_KEYS
            assert health["status"] == "healthy"
            assert health["redis_connected"] is True
            assert health["queue_count"] == 3
            assert health["total_pending"] == 0
            await processor.stop()
            await processor.stop()

    asyncio.run(main())


def test_a_token_is_used(server: Server) -> None:
    with Engine(server.url, STATS__TOKEN="t0ken") as engine:
        addr = f"127.0.0.1:{engine.stats_port}"
        good = StreamProcessor({"stats": {"addr": addr, "token": "t0ken"}})
        wait_for("the engine answers", lambda: good._stats._ask("/api/v1/system/metrics"))
        assert good.get_processing_stats()["status"] == "available"
        bad = StreamProcessor({"stats": {"addr": addr, "token": "other"}})
        assert bad.get_processing_stats()["status"] == "unavailable"


def test_without_the_engine_keys_are_still_there(server: Server) -> None:
    async def main() -> None:
        processor = await create_stream_processor(config_of(server))
        stats = processor.get_processing_stats()
        assert set(stats) == STATS_KEYS | {"status"}
        assert stats["status"] == "unavailable"
        assert set(stats["performance_metrics"]) == PERFORMANCE_KEYS
        assert set(stats["serialization_metrics"]) == SERIALIZATION_KEYS
        assert f"{stats['performance_metrics']['throughput_fps']:.1f}" == "0.0"
        health = await processor.get_queue_health()
        assert health == {
            "status": "unavailable",
            "redis_connected": True,
            "queue_count": 0,
            "total_pending": 0,
        }
        assert processor.get_stream_status("cam") is None
        await processor.register_stream({"camera_id": "cam", "location": "x"})
        status: Any = processor.get_stream_status("cam")
        assert set(status) == STREAM_KEYS
        assert status["status"] == "unavailable"
        assert status["resolution"] is None
        with pytest.raises(ValueError, match="camera_id"):
            await processor.register_stream({})
        await processor.stop()
        assert (await processor.get_queue_health())["redis_connected"] is False
        with pytest.raises(RuntimeError, match="not started"):
            await processor.enqueue_frame_for_processing({"camera_id": "c", "image_array": [[1]]})

    asyncio.run(main())


def test_redis_is_required() -> None:
    config = {"redis_url": f"redis://127.0.0.1:{free_port()}/0", "timeout": 1}
    with pytest.raises(RuntimeError, match="Redis is required"):
        asyncio.run(create_stream_processor(config))


def test_every_form_of_an_image_is_taken(server: Server) -> None:
    rgb = picture(12, 18)
    out = io.BytesIO()
    Pillow.fromarray(rgb).save(out, "JPEG")
    data = out.getvalue()
    coded = base64.b64encode(data).decode()
    pixels = rgb.tobytes()
    lines = "\r\n".join(coded[at : at + 76] for at in range(0, len(coded), 76))
    cases: list[tuple[dict[str, Any], bytes, str]] = [
        ({"image_array": rgb.tolist()}, pixels, "rgb24"),
        ({"image_array": rgb}, pixels, "rgb24"),
        ({"image_array": rgb.astype(np.int64)}, pixels, "rgb24"),
        ({"image_array": rgb.astype(float).tolist()}, pixels, "rgb24"),
        ({"image_array": rgb[:, :, 0].tolist()}, rgb[:, :, 0].tobytes(), "gray"),
        ({"image_array": rgb[:, :, :1]}, rgb[:, :, 0].tobytes(), "gray"),
        ({"image_base64": coded}, data, "jpeg"),
        ({"image_base64": coded.encode()}, data, "jpeg"),
        ({"image": f"data:image/jpeg;base64,{coded}"}, data, "jpeg"),
        ({"image_base64": coded.rstrip("=").replace("+", "-").replace("/", "_")}, data, "jpeg"),
        ({"image_base64": lines}, data, "jpeg"),
        ({"image_bytes": data}, data, "jpeg"),
    ]
    for frame, wanted, form in cases:
        message, fields = sent(server, {"camera_id": "cam", "frame_id": "f", "timestamp": 5, **frame})
        assert message.original_image.compressed_data == wanted
        assert message.original_image.compression_format == form
        assert (message.frame_id, message.camera_id, message.timestamp) == ("f", "cam", 5.0)
        assert b"priority" not in fields
    image = {"image_array": rgb}
    message, fields = sent(server, {"camera_id": 7, "frame_id": 8, **image}, priority=3)
    assert (message.camera_id, message.frame_id, fields[b"priority"]) == ("7", "8", b"3")
    assert abs(message.timestamp - time.time()) < 60
    for value, seconds in (
        ("12.5", 12.5),
        ("2026-01-02T03:04:05Z", 1767323045.0),
        ("2026-01-02T04:04:05+01:00", 1767323045.0),
        ("2026-01-02T03:04:05", 1767323045.0),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), 1767323045.0),
    ):
        message, _ = sent(server, {"camera_id": "c", "timestamp": value, **image})
        assert message.timestamp == seconds
    message, _ = sent(server, {"camera_id": "c", "timestamp": "soon", **image})
    assert abs(message.timestamp - time.time()) < 60


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"image_array": [[1]]}, "camera_id"),
        ({"camera_id": "c"}, "neither"),
        ({"camera_id": "c", "image_array": [[1, 2], [3]]}, "rows|samples"),
        ({"camera_id": "c", "image_array": [[[1, 2, 3], [4, 5]], [[1, 2, 3]]]}, "rows|samples"),
        ({"camera_id": "c", "image_array": [[256]]}, "0 to 255"),
        ({"camera_id": "c", "image_array": [[-1]]}, "0 to 255"),
        ({"camera_id": "c", "image_array": [[0.5]]}, "0 to 255"),
        ({"camera_id": "c", "image_array": [[float("nan")]]}, "0 to 255"),
        ({"camera_id": "c", "image_array": [["a"]]}, "no samples"),
        ({"camera_id": "c", "image_array": []}, "no samples"),
        ({"camera_id": "c", "image_array": [[[1, 2]]]}, "3"),
        ({"camera_id": "c", "image_base64": "!"}, "base64"),
        ({"camera_id": "c", "image_base64": 7}, "base64"),
        ({"camera_id": "c", "image_base64": "aGFsbG8="}, "no JPEG"),
    ],
)
def test_frames_that_are_none_are_refused(server: Server, frame: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        sent(server, frame)
    assert not server.client.exists("camera_frames")


def test_configurations_of_every_age_are_read(tmp_path: pathlib.Path) -> None:
    flat = {
        "redis_url": "redis://h:1/2",
        "input_queue": "in",
        "output_queue": "out",
        "enable_compression": False,
        "compression_format": "webp",
        "compression_quality": 60,
        "queue_pool_size": 50,
        "processing_timeout": 3,
        "some_old_key": 1,
    }
    own = {
        "redis_queue": {"url": "redis://h:1/2", "input_queue": "in", "output_queue": "out"},
        "stats": {"addr": None},
    }
    path = tmp_path / "flat.json"
    path.write_text(json.dumps(flat))
    yaml = tmp_path / "own.yaml"
    yaml.write_text("redis_queue: {url: 'redis://h:1/2', input_queue: in, output_queue: out}\n")
    for config in (flat, own, path, str(path), yaml):
        processor = StreamProcessor(config)
        assert processor.redis_url == "redis://h:1/2"
        assert (processor.input_queue, processor.output_queue) == ("in", "out")
    processor = StreamProcessor(flat)
    assert processor.enable_compression is False
    assert (processor.compression_format, processor.compression_quality) == ("webp", 60)
    nested = json.loads(NESTED.read_text())
    for config in (nested, NESTED):
        processor = StreamProcessor(config)
        assert processor.redis_url == nested["redis_url"]
        assert processor.input_queue == nested["input_queue"]
        assert processor.output_queue == nested["output_queue"]
        assert processor.enable_compression is nested["serialization"]["enable_compression"]
        assert processor.compression_format == nested["serialization"]["compression_format"]
        assert processor.compression_quality == nested["serialization"]["compression_quality"]
        assert processor.config.timeout == nested["production_optimizations"]["connection_timeout"]
        group = nested["queue_settings"]["input_queue_config"]["consumer_group"]
        assert processor.config.consumer_group == group
    defaults = StreamProcessor()
    assert (defaults.input_queue, defaults.output_queue) == ("camera_frames", "processed_frames")
    assert defaults.redis_url == "redis://localhost:6379/0"
    assert defaults.enable_compression is True


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"compression_quality": 0, "compression_format": "gif"}, "none of.*compression_quality"),
        ({"compression_format": "gif"}, "jpeg, png, webp"),
        ({"enable_compression": "yes"}, "true nor false"),
        ({"redis_url": 7}, "redis_url: a text"),
        ({"sentinel_nodes": ["a"]}, "sentinel_nodes"),
        ({"kafka": {"bootstrap_servers": []}}, "migrate-config"),
        ("/no/such/file.json", "No such file"),
        (7, "dictionary or a path"),
    ],
)
def test_faults_of_a_configuration_are_named(config: Any, reason: str) -> None:
    with pytest.raises(framepress.ConfigError, match=reason):
        StreamProcessor(config)


def test_the_load_test_runs_with_its_import_changed(server: Server) -> None:
    """Frames of 640 x 480 as lists, in asyncio, with an engine running.

    `FRAMEPRESS_LOAD_FRAMES=1000` sends as many as the old program; a list costs 0.2 s of CPU.
    """
    frames = int(os.environ.get("FRAMEPRESS_LOAD_FRAMES", "200"))
    program = (HERE / "old_load.py").read_text()
    old = "from its_camera_ai.data.streaming_processor import create_stream_processor"
    assert program.count(old) == 1
    program = program.replace(old, "from framepress.compat import create_stream_processor")
    program = program.replace("1000", str(frames))
    # The test server is not on the default port.
    program = program.replace("redis://localhost:6379/0", server.url)
    settings = {
        "REDIS_QUEUE__INPUT_QUEUE": "load_test_frames",
        "REDIS_QUEUE__OUTPUT_QUEUE": "load_test_processed",
        "REDIS_QUEUE__RETENTION": "delete",
    }
    with Engine(server.url, **settings) as engine:
        stats = f"127.0.0.1:{engine.stats_port}"
        done = run_python(program, STATS__ADDR=stats)
        assert done.returncode == 0, done.stderr
        assert f"enqueued {frames} frames" in done.stdout
        assert "queues: healthy" in done.stdout
        wait_for("results", lambda: server.client.xlen("load_test_processed") == frames)
        ids = {
            fields[b"frame_id"].decode()
            for _, fields in server.client.xrange("load_test_processed")  # type: ignore
        }
        assert ids == {f"load_frame_{number}" for number in range(frames)}
        assert not server.client.exists("load_test_frames:dlq")
    server.client.flushall()


def test_an_array_is_far_faster_than_a_list(server: Server) -> None:
    """At least 20 times; this test checks a quarter of that, as other tests may run concurrently."""
    rgb = np.random.default_rng(1).integers(0, 256, (640, 480, 3), np.uint8)
    as_list = rgb.tolist()

    async def main() -> tuple[float, float]:
        async with StreamProcessor(config_of(server)) as processor:

            async def cost(image: Any, count: int) -> float:
                best = float("inf")
                for _ in range(3):
                    began = time.process_time()
                    for _ in range(count):
                        frame = {"camera_id": "c", "frame_id": "f", "image_array": image}
                        await processor.enqueue_frame_for_processing(frame)
                    best = min(best, (time.process_time() - began) / count)
                    server.client.delete("camera_frames")
                return best

            await cost(rgb, 3)
            return await cost(as_list, 2), await cost(rgb, 10)

    of_list, of_array = asyncio.run(main())
    print(f"list {1000 * of_list:.2f} ms, array {1000 * of_array:.3f} ms CPU a frame")
    assert of_list > 5 * of_array


#: A program with redis-py and generated classes, like the old system's consumers.
UNCHANGED = """
import sys
import redis
import processed_frame_pb2

client = redis.Redis.from_url(sys.argv[1])
try:
    client.xgroup_create("processed_frames", "dashboard", id="0", mkstream=True)
except redis.ResponseError:
    pass
seen = 0
while seen < 3:
    reply = client.xreadgroup("dashboard", "d1", {"processed_frames": ">"}, count=10, block=1000)
    for _, entries in reply.items() if isinstance(reply, dict) else reply or []:
        if entries and isinstance(entries[0], list):
            entries = entries[0]
        for entry, fields in entries:
            frame = processed_frame_pb2.ProcessedFrame()
            frame.ParseFromString(fields[b"data"])
            kind, score = frame.original_image.compression_format, frame.quality_metrics.quality_score
            print(frame.frame_id, kind, score > 0)
            client.xack("processed_frames", "dashboard", entry)
            seen += 1
"""


def test_a_program_with_generated_classes_needs_no_change(
    server: Server, tmp_path: pathlib.Path
) -> None:
    """Its schema is older, without the latest fields."""
    from grpc_tools import protoc

    schema = (ROOT / "proto" / "processed_frame.proto").read_text()
    lines = [line for line in schema.splitlines() if not any(f" = {n};" in line for n in (20, 21, 22))]
    assert len(lines) == len(schema.splitlines()) - 3
    (tmp_path / "processed_frame.proto").write_text("\n".join(lines))
    arguments = [f"-I{tmp_path}", f"--python_out={tmp_path}", "processed_frame.proto"]
    assert protoc.main(["protoc", *arguments]) == 0
    with Engine(server.url), framepress.Producer(server.url) as producer:
        for number in range(3):
            producer.send(picture(), "cam", frame_id=f"f{number}")
        path = f"{tmp_path}:{ROOT / 'python' / 'src'}"
        for program in (UNCHANGED, "import framepress\n" + UNCHANGED.replace("dashboard", "other")):
            done = run_python(program, server.url, PYTHONPATH=path)
            assert done.stdout == "f0 jpeg True\nf1 jpeg True\nf2 jpeg True\n", done.stderr
