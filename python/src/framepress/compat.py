"""The names of the processor that Framepress replaces.

A program written against the old module changes its import:

```python
from framepress.compat import create_stream_processor
```

The old processor worked inside the program. Here the engine is a separate process, `framepress run`
with the same configuration. This module sends frames to it and gets figures from its statistics
server. If that server cannot be reached, the methods return the same keys: figures are 0, and
`status` is `unavailable`.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import itertools
import logging
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ._config import ConfigSource, ProcessorConfig, read_config
from ._link import Argument
from ._picture import Image
from ._stats import Stats
from .errors import ImageError, RedisUnavailable
from .producer import AsyncProducer

__all__ = ["StreamProcessor", "create_stream_processor"]

_log = logging.getLogger("framepress")
_CAMERAS_MAX = 65_536


async def create_stream_processor(config: ConfigSource = None) -> StreamProcessor:
    """Creates a processor and starts it.

    Args:
        config: A dictionary or the path of a JSON file (YAML with the extra `yaml`), flat or nested
            as in the replaced system, or with the engine's own sections. `stats: {addr, token}`
            sets the engine's statistics server, by default 127.0.0.1:8080.

    Raises:
        ConfigError: It cannot be read, or has values that are not valid.
        RuntimeError: Redis cannot be reached.
    """
    processor = StreamProcessor(config)
    await processor.start()
    return processor


class StreamProcessor:
    """Sends frames to an engine and reports its figures."""

    def __init__(self, config: ConfigSource = None) -> None:
        """Reads the configuration; see `create_stream_processor`."""
        self.config: ProcessorConfig = read_config(config)
        self.redis_url: str = self.config.redis_url
        self.input_queue: str = self.config.input_queue
        self.output_queue: str = self.config.output_queue
        self.enable_compression: bool = self.config.enable_compression
        self.compression_format: str = self.config.compression_format
        self.compression_quality: int = int(self.config.compression_quality)
        self.quality_threshold: float = self.config.quality_threshold
        self.max_concurrent_streams: int = int(self.config.max_concurrent_streams)
        #: Cameras registered here: id -> their registered data.
        self.registered_streams: dict[str, dict[str, Any]] = {}
        self._stats = Stats(self.config.stats_addr, self.config.stats_token)
        self._producer: AsyncProducer | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._producer is not None

    async def start(self) -> None:
        """Connects to Redis.

        Raises:
            RuntimeError: Redis cannot be reached within the configured timeout, 5 s at most.
        """
        if self._producer is not None:
            return
        config = self.config
        producer = AsyncProducer(
            config.redis_url,
            stream=config.input_queue,
            shards=int(config.shards),
            consumer_group=config.consumer_group,
            timeout=float(config.timeout),
            tls=config.tls,
            sentinel_nodes=config.sentinel_nodes,
            sentinel_service_name=config.sentinel_service_name,
        )
        try:
            await producer.connect(min(float(config.timeout), 5.0))
        except RedisUnavailable as error:
            await producer.close()
            raise RuntimeError(f"Redis is required: {error}") from error
        except BaseException:
            await producer.close()
            raise
        self._producer = producer

    async def stop(self) -> None:
        """Disconnects. The engine still processes the frames sent."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.close()

    async def __aenter__(self) -> StreamProcessor:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def enqueue_frame_for_processing(self, frame: Mapping[str, Any], priority: int = 0) -> str:
        """Sends a frame.

        Args:
            frame: `frame_id`, `camera_id`, `timestamp` (seconds since the Unix epoch, or ISO 8601;
                by default now) and one of
                - `image_array`: RGB of shape H x W x 3, or gray of H x W or H x W x 1, each sample
                  0 to 255: nested lists, or an array of uint8, which is many times faster;
                - `image_base64` (or `image`): a JPEG, PNG or WebP file in base64;
                - `image_bytes`: the same as bytes.
            priority: A field of the entry.

        Returns:
            The id of the entry.

        Raises:
            ValueError: The frame has no camera or no image, or it is not valid. Nothing was sent.
            RedisUnavailable: Redis is away for longer than the timeout.
            RuntimeError: The processor is not started.
        """
        producer = self._producer
        if producer is None:
            raise RuntimeError("the processor is not started")
        camera_id = frame.get("camera_id")
        if camera_id is None or camera_id == "":
            raise ValueError("the frame has no camera_id")
        frame_id = frame.get("frame_id")
        fields: dict[str, Argument] = {"priority": int(priority)} if priority else {}
        if isinstance(frame.get("traceparent"), str):
            fields["traceparent"] = frame["traceparent"]
        image, layout = _image_of(frame)
        entry = await producer.send(
            image,
            str(camera_id),
            _time_of(frame.get("timestamp")),
            None if frame_id is None else str(frame_id),
            layout=layout,
            fields=fields,
        )
        assert entry is not None, "a producer that blocks drops nothing"
        return entry

    async def register_stream(self, camera_config: Mapping[str, Any]) -> bool:
        """Registers a camera, so that `get_stream_status` knows it before its first frame.

        Set regions of interest and the camera's threshold in the engine's key `cameras`.

        Args:
            camera_config: `camera_id`, and, if known, `location`, `coordinates`
                (latitude, longitude), `resolution` (width, height), `fps`, `quality_threshold`.

        Returns:
            `True`.

        Raises:
            ValueError: `camera_id` is missing.
        """
        camera_id = camera_config.get("camera_id")
        if not camera_id:
            raise ValueError("the camera has no camera_id")
        if len(self.registered_streams) >= _CAMERAS_MAX:
            del self.registered_streams[next(iter(self.registered_streams))]
        self.registered_streams[str(camera_id)] = dict(camera_config)
        return True

    def get_stream_status(self, camera_id: str) -> dict[str, Any] | None:
        """The figures of a camera; `None` if neither the engine nor this processor knows it.

        `status` is `active`, `inactive` (no frame for ten seconds, or none yet), or `unavailable`
        (the engine cannot be reached). Latencies are milliseconds, `error_rate` lies between 0 and 1,
        `last_frame_time` is in seconds since the Unix epoch. `avg_processing_latency_ms` and
        `quality_score_avg` are those of the last frame, as the engine keeps no mean per camera.
        """
        said = self.registered_streams.get(camera_id)
        seen = self._stats.camera(camera_id)
        if said is None and seen is None:
            return None
        said = said or {}
        if seen is not None:
            status = str(seen.get("status", "active"))
        else:
            status = "inactive" if self._stats.metrics() is not None else "unavailable"
        seen = seen or {}
        done = int(seen.get("frames_processed", 0))
        refused = int(seen.get("frames_rejected", 0))
        return {
            "camera_id": camera_id,
            "status": status,
            "location": said.get("location"),
            "resolution": said.get("resolution"),
            "fps": said.get("fps"),
            "total_frames_processed": done,
            "avg_processing_latency_ms": float(seen.get("processing_time_ms", 0.0)),
            "quality_score_avg": float(seen.get("quality_score", 0.0)),
            "error_rate": refused / (done + refused) if done + refused else 0.0,
            "last_frame_time": float(seen.get("last_frame_time", 0.0)),
        }

    def get_processing_stats(self) -> dict[str, Any]:
        """The engine's figures: times in milliseconds, ratios compressed / raw bytes.

        `status` is `available`, or `unavailable` with all figures 0.
        """
        found = self._stats.metrics()
        seen = found or {}
        performance = seen.get("performance_metrics", {})
        serialization = seen.get("serialization_metrics", {})
        return {
            "status": "unavailable" if found is None else "available",
            "active_streams": int(seen.get("active_streams", 0)),
            "performance_metrics": {
                "frames_processed": int(performance.get("frames_processed", 0)),
                "frames_rejected": int(performance.get("frames_rejected", 0)),
                "avg_processing_time": float(performance.get("avg_processing_time", 0.0)),
                "throughput_fps": float(performance.get("throughput_fps", 0.0)),
                "error_count": int(performance.get("error_count", 0)),
            },
            "queue_manager_available": self._producer is not None,
            "serialization_enabled": True,
            "serialization_metrics": {
                "avg_serialization_time_ms": float(serialization.get("avg_serialization_time_ms", 0.0)),
                "total_serializations": int(serialization.get("total_serializations", 0)),
                "avg_compression_ratio": float(serialization.get("avg_compression_ratio", 0.0)),
                "compression_enabled": bool(
                    serialization.get("compression_enabled", self.enable_compression)
                ),
            },
        }

    async def get_queue_health(self) -> dict[str, Any]:
        """The state of the queues.

        `status` is `healthy`, `unhealthy` (Redis is away, or the engine is not ready), or
        `unavailable` (the engine cannot be reached). `total_pending` is the number of entries in work
        in all `queue_count` queues.
        """
        connected = False
        if self._producer is not None:
            connected = await self._producer.ping()
        found = self._stats.metrics()
        if found is None:
            return {
                "status": "unavailable",
                "redis_connected": connected,
                "queue_count": 0,
                "total_pending": 0,
            }
        queues = found.get("queue_metrics", {})
        ready = bool(found.get("health", {}).get("ready", True))
        return {
            "status": "healthy" if connected and ready else "unhealthy",
            "redis_connected": connected,
            "queue_count": len(queues),
            "total_pending": sum(int(queue.get("pending_count", 0)) for queue in queues.values()),
        }


def _image_of(frame: Mapping[str, Any]) -> tuple[Image, str | None]:
    if frame.get("image_array") is not None:
        pixels = _samples(frame["image_array"])
        channels = 1 if pixels.ndim == 2 else pixels.shape[-1]
        return pixels, {1: "gray", 3: "rgb24", 4: "rgba"}.get(channels, "rgb24")
    for name in ("image_base64", "image"):
        if frame.get(name) is not None:
            return _decoded(name, frame[name]), None
    if isinstance(frame.get("image_bytes"), (bytes, bytearray, memoryview)):
        return frame["image_bytes"], None
    raise ValueError("the frame has neither image_array nor image_base64")


def _samples(image: Any) -> npt.NDArray[np.uint8]:
    """Pixels as uint8, if that changes no value."""
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return image
    if isinstance(image, list):
        pixels = _whole_numbers(image)
        if pixels is not None:
            return pixels
    try:
        given = np.asarray(image)
    except ValueError as error:
        raise ImageError(f"image_array: rows of different lengths ({error})") from error
    if given.dtype.kind not in "uif" or given.size == 0:
        raise ImageError(f"image_array of shape {given.shape} and dtype {given.dtype}: no samples")
    is_sound = bool(np.isfinite(given).all()) and given.min() >= 0 and given.max() <= 255
    samples = given.astype(np.uint8) if is_sound else None
    if samples is None or (given.dtype.kind == "f" and not np.array_equal(samples, given)):
        raise ImageError("image_array: samples are whole numbers from 0 to 255")
    return samples


def _whole_numbers(rows: list[Any]) -> npt.NDArray[np.uint8] | None:
    """Nested lists of samples, in half of NumPy's time; `None` for anything unusual."""
    try:
        lengths = set(map(len, rows))
        flat: Any = itertools.chain.from_iterable(rows)
        shape: tuple[int, ...] = (len(rows), *lengths)
        if isinstance(rows[0][0], list):
            depths = set(map(len, itertools.chain.from_iterable(rows)))
            flat = itertools.chain.from_iterable(flat)
            shape = (*shape, *depths)
            if len(depths) != 1:
                return None
        if len(lengths) != 1:
            return None
        return np.frombuffer(bytes(flat), np.uint8).reshape(shape)
    except (TypeError, ValueError, IndexError):
        # Numbers outside 0 to 255, floats, or arrays in lists: leave these to NumPy.
        return None


def _decoded(name: str, text: Any) -> bytes:
    """Base64 in all forms that producers use: in lines, without padding, URL-safe, as a data URL."""
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    if not isinstance(text, str):
        raise ImageError(f"{name} is {type(text).__name__}, not base64")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    text = re.sub(r"\s+", "", text).translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"{name} is no base64: {error}") from error


def _time_of(value: Any) -> float | None:
    """Seconds since the Unix epoch; `None`, which stands for the current time, if there is no value."""
    if value is None:
        return None
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    try:
        seconds = float(value)
        return seconds if np.isfinite(seconds) else None
    except (TypeError, ValueError):
        pass
    try:
        moment = datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        _log.warning("a timestamp that cannot be understood is replaced by now: %r", value)
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return moment.timestamp()
