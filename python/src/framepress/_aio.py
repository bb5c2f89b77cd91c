"""Executes steps in asyncio."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any, TypeVar

import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ._link import Drop, Exchange, Lost, Pause, Steps
from ._servers import Address, Settings
from ._sync import _HAS_PROTOCOL

__all__ = ["AsyncDriver"]

# Part of asyncio from Python 3.11; for earlier versions redis-py depends on the package.
_timeout: Any = getattr(asyncio, "timeout", None) or import_module("async_timeout").timeout

T = TypeVar("T")


class AsyncDriver:
    """The connections of one producer or consumer, in one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limit = settings.socket_timeout
        self._connections: dict[Address, Any] = {}

    async def run(self, steps: Steps[T]) -> T:
        """Executes all steps, and returns their result."""
        answer: Any = None
        error = None
        while True:
            try:
                step = steps.throw(error) if error else steps.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            answer = error = None
            try:
                if isinstance(step, Exchange):
                    answer = await self._exchange(step)
                elif isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                else:
                    await self._drop(step)
            except Lost as lost:
                error = lost
            except BaseException:
                steps.close()
                raise

    async def close(self) -> None:
        await self._drop(Drop())

    async def _exchange(self, step: Exchange) -> list[Any]:
        connection = self._connections.get(step.address)
        if connection is None:
            connection = await self._open(step.address)
        try:
            async with _timeout(self._limit):
                await connection.send_packed_command(step.pieces, check_health=False)
            return [await self._reply(connection) for _ in range(step.replies)]
        except (redis.exceptions.RedisError, OSError, asyncio.TimeoutError) as error:
            await self._drop(Drop(step.address))
            happened = not isinstance(error, redis.exceptions.BusyLoadingError)
            raise Lost(f"{step.address}: {error}", may_have_happened=happened) from error
        except BaseException:
            # Cancelled with replies outstanding, so this connection cannot be used again.
            self._connections.pop(step.address, None)
            await connection.disconnect(nowait=True)
            raise

    async def _reply(self, connection: Any) -> Any:
        try:
            async with _timeout(self._limit):
                return await connection.read_response()
        except redis.exceptions.ResponseError as error:
            return error
        except redis.exceptions.AuthenticationError as error:
            return error

    async def _open(self, address: Address) -> Any:
        settings = self._settings.of(address)
        settings["retry"] = Retry(NoBackoff(), 0)
        # With a timeout set, redis-py sends under `asyncio.wait_for`. Before Python 3.12 that loses a
        # cancellation that comes just when the bytes have been sent.
        settings["socket_timeout"] = None
        if address.path:
            kind: Any = redis.asyncio.UnixDomainSocketConnection
        elif self._settings.servers.tls is not None:
            kind = redis.asyncio.SSLConnection
        else:
            kind = redis.asyncio.Connection
        if _HAS_PROTOCOL:
            settings["protocol"] = 2
        connection = kind(**settings)
        try:
            async with _timeout(self._limit):
                await connection.connect()
        except (redis.exceptions.RedisError, OSError, asyncio.TimeoutError) as error:
            raise Lost(f"{address}: {error}", may_have_happened=False) from error
        self._connections[address] = connection
        return connection

    async def _drop(self, step: Drop) -> None:
        addresses = [step.address] if step.address else list(self._connections)
        for address in addresses:
            connection = self._connections.pop(address, None)
            if connection is not None:
                await connection.disconnect(nowait=True)
