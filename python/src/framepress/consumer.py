"""Reads the engine's results in a consumer group."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Callable

from ._aio import AsyncDriver
from ._client import Client
from ._link import Link
from ._reading import Options, Tally
from ._receiving import Receiving
from ._servers import Settings
from ._sync import Driver
from .results import Result

__all__ = ["AsyncConsumer", "Consumer", "Tally"]

_log = logging.getLogger("framepress")


class _Settings(Client):
    """Settings of both kinds of consumers."""

    _what = "consumer"

    def __init__(
        self,
        url: str | None = None,
        *,
        group: str,
        consumer: str | None = None,
        stream: str = "processed_frames",
        shards: int = 1,
        start: str = "0",
        layout: str = "bgr24",
        batch: int = 16,
        block_ms: int = 1000,
        claim_idle_ms: int = 30_000,
        attempts: int = 3,
        dead_letters: bool = True,
        dead_letter_max_length: int = 10_000,
        timeout: float | None = None,
        idle_timeout: float | None = None,
        connect_timeout: float = 2.0,
        socket_timeout: float = 5.0,
        tls: Mapping[str, Any] | None = None,
        sentinel_nodes: Sequence[Mapping[str, Any]] = (),
        sentinel_service_name: str | None = None,
    ) -> None:
        """Checks the settings. It connects when the first result is requested.

        Args:
            url: As in docs/redis.md; by default `$REDIS_QUEUE__URL`, else redis://localhost:6379/0.
            group: The consumer group; consumers of one group share the results.
            consumer: This consumer's name in the group, used by no other process at the same time.
                By default the host's name and the process id. With a stable name, a restarted
                consumer gets its unfinished results back at once.
            stream: The output stream of the engine.
            shards: The engine's `redis_queue.shards`.
            start: Where a new group begins: `0` with all entries in the stream, `$` with new ones.
            layout: Of `Result.image`: `bgr24` or `rgb24`.
            batch: Most results fetched at a time. All of them should be processed within
                `claim_idle_ms`.
            block_ms: Longest wait for Redis at a time; also how soon `stop` is noticed.
            claim_idle_ms: A result not acknowledged for this long is handed out again, here or by
                another consumer. Must be longer than the longest work on one result.
            attempts: Deliveries before a result goes to the dead-letter stream, `<stream>:dlq`.
            dead_letters: `False`: the result is acknowledged, dropped and counted instead.
            dead_letter_max_length: Approximate length of that stream.
            timeout: Seconds without Redis after which iteration raises; `None`: never.
            idle_timeout: Seconds without a result after which iteration ends; `None`: never.
            connect_timeout: Seconds for one attempt to connect.
            socket_timeout: Seconds without an answer after which a connection is closed.
            tls: `ca`, `cert`, `key`: paths of PEM files.
            sentinel_nodes: `[{"host": ..., "port": ...}]`.
            sentinel_service_name: The Sentinels' name of the primary.

        Raises:
            ConfigError: A setting is not valid.
        """
        super().__init__(url, tls, sentinel_nodes, sentinel_service_name)
        streams = [stream] if shards == 1 else [f"{stream}:{{{n}}}" for n in range(shards)]
        self._receiving = Receiving(
            Link(self.servers),
            Options(
                streams=tuple(streams),
                group=group,
                consumer=consumer or f"{socket.gethostname()}-{os.getpid()}",
                start=start,
                batch=batch,
                block_ms=block_ms,
                claim_idle_ms=claim_idle_ms,
                attempts=attempts,
                dead_letters=dead_letters,
                dead_letter_max_length=dead_letter_max_length,
                layout=layout,
                timeout=timeout,
                idle_timeout=idle_timeout,
            ),
            self.servers.kind == "cluster",
        )
        #: The last result handed out, if it is not settled.
        self._current: Result | None = None
        self._start(Settings(self.servers, connect_timeout, socket_timeout + block_ms / 1000))

    @property
    def counts(self) -> Tally:
        """The counters so far; a copy."""
        return replace(self._receiving.tally)

    def stop(self) -> None:
        """Ends the iteration after the current result, within `block_ms`. Any thread may call it."""
        self._receiving.stopping = True

    def _settled(self, result: Result) -> None:
        if self._current is result:
            self._current = None


class Consumer(_Settings):
    """An iterator over results. It acknowledges a result when the next one is requested.

    ```python
    with Consumer(group="plates") as consumer:
        for result in consumer:
            print(result.camera_id, result.image.shape)
    ```

    If the body raises, the result stays pending: it is handed out again after `claim_idle_ms`, up to
    `attempts` times, and then goes to the dead-letter stream. The same applies to a result left by
    `break` outside a `with` block; the regular end of a `with` block acknowledges it.

    A result is handed out twice if its consumer died, or was cut off from Redis, between working on
    it and acknowledging it; if work took longer than `claim_idle_ms`; or if the group was deleted.
    Only `stop` is thread-safe.
    """

    def _start(self, settings: Settings) -> None:
        self._driver = Driver(settings)

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        """Acknowledges the previous result and waits for the next one.

        Raises:
            StopIteration: After `stop`, or after `idle_timeout`.
            RedisUnavailable: Redis was away for `timeout` seconds.
            RedisRefused: Redis refused with a permanent error, such as NOPERM.
        """
        self._check_open()
        if self._current is not None:
            self.ack(self._current)
        result = self._driver.run(self._receiving.next())
        if result is None:
            raise StopIteration
        self._current = result
        return result

    def ack(self, result: Result) -> bool:
        """Acknowledges a result now. `False`: another consumer had claimed and finished it."""
        self._settled(result)
        return self._driver.run(self._receiving.acknowledge(result))

    def retry(self, result: Result, error: BaseException | None = None) -> None:
        """Leaves a result pending, so that it is handed out again after `claim_idle_ms`.

        After its last attempt it becomes a dead letter with `error` as its detail.
        """
        self._settled(result)
        self._driver.run(self._receiving.fail(result, error))

    def reject(self, result: Result, reason: str = "rejected", detail: str = "") -> None:
        """Moves a result to the dead-letter stream now, with all its fields."""
        self._settled(result)
        self._driver.run(self._receiving.reject(result, reason, detail))

    def run(self, handler: Callable[[Result], Any]) -> int:
        """Calls `handler` with each result until `stop`; one that raises is retried, and logged.

        Returns:
            Number of results handled.
        """
        handled = 0
        for result in self:
            try:
                handler(result)
            except Exception as error:
                _log.warning("result %s: %s: %s", result.entry_id, type(error).__name__, error)
                self.retry(result, error)
            else:
                handled += 1
        return handled

    def close(self) -> None:
        """Gives fetched but undelivered results back to the group, and disconnects."""
        if self._closes_now():
            self._driver.run(self._receiving.close())
            self._driver.close()

    def __enter__(self) -> Consumer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._current is not None and error is None:
            self.ack(self._current)
        self.close()


class AsyncConsumer(_Settings):
    """The same for asyncio, for use with `async for`."""

    def _start(self, settings: Settings) -> None:
        self._driver = AsyncDriver(settings)

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        """Like `Consumer.__next__`."""
        self._check_open()
        if self._current is not None:
            await self.ack(self._current)
        result = await self._driver.run(self._receiving.next())
        if result is None:
            raise StopAsyncIteration
        self._current = result
        return result

    async def ack(self, result: Result) -> bool:
        """Like `Consumer.ack`."""
        self._settled(result)
        return await self._driver.run(self._receiving.acknowledge(result))

    async def retry(self, result: Result, error: BaseException | None = None) -> None:
        """Like `Consumer.retry`."""
        self._settled(result)
        await self._driver.run(self._receiving.fail(result, error))

    async def reject(self, result: Result, reason: str = "rejected", detail: str = "") -> None:
        """Like `Consumer.reject`."""
        self._settled(result)
        await self._driver.run(self._receiving.reject(result, reason, detail))

    async def run(self, handler: Callable[[Result], Awaitable[Any]]) -> int:
        """Like `Consumer.run`, with an awaitable handler."""
        handled = 0
        async for result in self:
            try:
                await handler(result)
            except Exception as error:
                _log.warning("result %s: %s: %s", result.entry_id, type(error).__name__, error)
                await self.retry(result, error)
            else:
                handled += 1
        return handled

    async def close(self) -> None:
        """Like `Consumer.close`."""
        if self._closes_now():
            await self._driver.run(self._receiving.close())
            await self._driver.close()

    async def __aenter__(self) -> AsyncConsumer:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._current is not None and error is None:
            await self.ack(self._current)
        await self.close()
