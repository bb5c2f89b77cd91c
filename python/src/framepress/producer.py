"""Sends frames to the engine's input stream."""

from __future__ import annotations

import asyncio
import datetime
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from ._aio import AsyncDriver
from ._client import Client
from ._link import Argument, Link
from ._parcel import Counts, Options
from ._picture import Image
from ._ring import Ring
from ._sending import Sending
from ._servers import Settings
from ._sync import Driver

__all__ = ["AsyncProducer", "Counts", "Producer", "Ring"]


class _Settings(Client):
    """Settings of both kinds of producers."""

    _what = "producer"

    def __init__(
        self,
        url: str | None = None,
        *,
        stream: str = "camera_frames",
        ring: Ring | str | None = None,
        full: str = "block",
        timeout: float = 30.0,
        max_waiting: int = 0,
        max_stream_length: int = 0,
        shards: int = 1,
        consumer_group: str = "stream_processor",
        hold: int = 16,
        max_payload_bytes: int = 67_108_864,
        connect_timeout: float = 2.0,
        socket_timeout: float = 5.0,
        tls: Mapping[str, Any] | None = None,
        sentinel_nodes: Sequence[Mapping[str, Any]] = (),
        sentinel_service_name: str | None = None,
    ) -> None:
        """Checks the settings. It connects when the first frame is sent.

        Args:
            url: As in docs/redis.md; by default `$REDIS_QUEUE__URL`, else redis://localhost:6379/0.
            stream: The input stream of the engine.
            ring: A frame ring, or its name: the pixels lie in shared memory, Redis carries only the
                entry. The engine must run on this machine and read the same directory.
            full: What happens to a frame if there is no room (`max_waiting`, a lossless ring, no
                memory in Redis) or Redis is away. `block` waits, and raises after `timeout`. `newest`
                drops this frame. `oldest` drops the oldest frame: of the stream if it is full; while
                Redis is away, of the last `hold` frames, which are kept until it is back.
            timeout: Longest wait of `send` in seconds; one attempt to reach Redis may exceed it by
                `connect_timeout` and `socket_timeout`.
            max_waiting: Most frames that the engine's group has not acknowledged; 0 for no limit.
            max_stream_length: Approximate length to which Redis trims the stream (MAXLEN ~), whether
                read or not; 0 for no limit.
            shards: The engine's `redis_queue.shards`. More than 1 needs the extra `xxhash`.
            consumer_group: The engine's group, for `max_waiting`.
            hold: Frames kept for `full="oldest"`; with a ring at most one less than its slots.
            max_payload_bytes: The engine's limit; the producer refuses a larger image.
            connect_timeout: Seconds for one attempt to connect.
            socket_timeout: Seconds without progress after which a connection is closed.
            tls: `ca`, `cert`, `key`: paths of PEM files.
            sentinel_nodes: `[{"host": ..., "port": ...}]`.
            sentinel_service_name: The Sentinels' name of the primary.

        Raises:
            ConfigError: A setting is not valid.
        """
        super().__init__(url, tls, sentinel_nodes, sentinel_service_name)
        self._timeout = timeout
        self._sending = Sending(
            Link(self.servers),
            Options(
                stream=stream,
                shards=shards,
                consumer_group=consumer_group,
                full=full,
                timeout=timeout,
                max_waiting=max_waiting,
                max_stream_length=max_stream_length,
                max_payload_bytes=max_payload_bytes,
                hold=hold,
                ring=Ring(ring) if isinstance(ring, str) else ring,
            ),
        )
        self._start(Settings(self.servers, connect_timeout, socket_timeout))

    @property
    def counts(self) -> Counts:
        """The counters so far; a copy."""
        return replace(self._sending.counts)


class Producer(_Settings):
    """A connection that sends frames. Several threads may share it; they send one after the other.

    ```python
    with Producer("redis://localhost:6379/0") as producer:
        producer.send(image, camera_id="cam1", timestamp=time.time())
    ```
    """

    def _start(self, settings: Settings) -> None:
        self._driver = Driver(settings)
        self._lock = threading.Lock()

    def send(
        self,
        image: Image,
        camera_id: str,
        timestamp: float | datetime.datetime | None = None,
        frame_id: str | None = None,
        *,
        layout: str | None = None,
        color_range: str = "",
        color_matrix: str = "",
        quality: int = 0,
        fields: Mapping[str, Argument] | None = None,
    ) -> str | None:
        """Sends one frame and waits until Redis has it.

        Args:
            image: One of
                - an array of dtype uint8, in any memory order: H x W x 3 (`bgr24`, or `rgb24`),
                  H x W x 4 (`bgra`, or `rgba`), H x W or H x W x 1 (`gray`), H x W x 2 (`yuyv422`);
                  without `layout` the first of these applies, as in OpenCV;
                - planes of uint8: a tuple of Y (H x W), U, V (each half the size, odd sides rounded
                  up) for `yuv420p`, the default, or `yuvj420p`; of Y and UV (H/2 x W/2 x 2) for
                  `nv12`; or with `layout` all of them in one array of 3/2 H x W;
                - the bytes of a JPEG, PNG or WebP file, also as `cv2.imencode` returns them.
            camera_id: The camera; not empty.
            timestamp: Capture time, in seconds since the Unix epoch, or a datetime (a naive one is
                local time); by default now.
            frame_id: Unique for the camera; by default generated.
            layout: The name of the pixels' layout.
            color_range: `limited` or `full`; by default that of the layout.
            color_matrix: `bt601` (the default) or `bt709`, for YUV.
            quality: Quality that a file was encoded with, 1 to 100, if known.
            fields: More fields of the entry, such as `priority` or `traceparent`.

        Returns:
            The id of the entry. `None`: the frame was dropped or is held; `counts` says which.

        Raises:
            ImageError: The image has a wrong shape, dtype or size. Nothing was sent.
            ValueError: An id or the time is not valid. Nothing was sent.
            QueueFull: There was no room within the timeout (`full="block"`).
            RedisUnavailable: Redis was away until the timeout (`full="block"`).
            RedisRefused: Redis refused with a permanent error, such as NOPERM.
            RingError: The ring could not be created; `RingBusy` if another producer holds it.
        """
        with self._lock:
            self._check_open()
            return self._driver.run(
                self._sending.send(
                    image,
                    camera_id,
                    timestamp,
                    frame_id,
                    layout,
                    color_range,
                    color_matrix,
                    quality,
                    fields,
                )
            )

    def connect(self, timeout: float | None = None) -> None:
        """Waits until Redis answers; otherwise the first `send` does.

        Raises:
            RedisUnavailable: It did not within `timeout` seconds.
        """
        with self._lock:
            self._check_open()
            self._driver.run(self._sending.connect(self._timeout if timeout is None else timeout))

    def flush(self, timeout: float | None = None) -> int:
        """Sends the held frames (`full="oldest"`), for at most `timeout` seconds.

        Returns:
            The number of frames that are still held.
        """
        with self._lock:
            self._check_open()
            return self._driver.run(self._sending.flush(self._timeout if timeout is None else timeout))

    def ping(self) -> bool:
        """Whether Redis answers at present."""
        with self._lock:
            self._check_open()
            return self._driver.run(self._sending.ping())

    def close(self, *, timeout: float = 1.0, remove_ring: bool = False) -> None:
        """Sends the held frames, for at most `timeout` seconds, and closes the connection and the ring.

        The ring's file stays, as its frames may not have been read yet; the next producer of the
        name replaces it. `remove_ring` frees its memory: unread frames are lost.
        """
        with self._lock:
            if not self._closes_now():
                return
            if self._sending.counts.held:
                self._driver.run(self._sending.flush(timeout))
            self._driver.close()
            self._sending.close(remove_ring)

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncProducer(_Settings):
    """The same for asyncio. Tasks of one event loop may share it; they send one after the other.

    While it copies the pixels of a frame into a ring, it blocks the event loop: about a millisecond
    for 1080p.
    """

    def _start(self, settings: Settings) -> None:
        self._driver = AsyncDriver(settings)
        self._turn: asyncio.Lock | None = None

    def _lock(self) -> asyncio.Lock:
        # Python 3.9 binds a lock to the event loop that is current at its creation.
        if self._turn is None:
            self._turn = asyncio.Lock()
        return self._turn

    async def send(
        self,
        image: Image,
        camera_id: str,
        timestamp: float | datetime.datetime | None = None,
        frame_id: str | None = None,
        *,
        layout: str | None = None,
        color_range: str = "",
        color_matrix: str = "",
        quality: int = 0,
        fields: Mapping[str, Argument] | None = None,
    ) -> str | None:
        """Like `Producer.send`. If it is cancelled, the frame may be in the stream."""
        async with self._lock():
            self._check_open()
            return await self._driver.run(
                self._sending.send(
                    image,
                    camera_id,
                    timestamp,
                    frame_id,
                    layout,
                    color_range,
                    color_matrix,
                    quality,
                    fields,
                )
            )

    async def connect(self, timeout: float | None = None) -> None:
        """Waits until Redis answers.

        Raises:
            RedisUnavailable: It did not within `timeout` seconds.
        """
        async with self._lock():
            self._check_open()
            await self._driver.run(self._sending.connect(self._timeout if timeout is None else timeout))

    async def flush(self, timeout: float | None = None) -> int:
        """Like `Producer.flush`."""
        async with self._lock():
            self._check_open()
            return await self._driver.run(
                self._sending.flush(self._timeout if timeout is None else timeout)
            )

    async def ping(self) -> bool:
        """Whether Redis answers at present."""
        async with self._lock():
            self._check_open()
            return await self._driver.run(self._sending.ping())

    async def close(self, *, timeout: float = 1.0, remove_ring: bool = False) -> None:
        """Like `Producer.close`."""
        async with self._lock():
            if not self._closes_now():
                return
            if self._sending.counts.held:
                await self._driver.run(self._sending.flush(timeout))
            await self._driver.close()
            self._sending.close(remove_ring)

    async def __aenter__(self) -> AsyncProducer:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
