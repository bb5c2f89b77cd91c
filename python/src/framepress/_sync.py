"""Executes steps, blocking."""

from __future__ import annotations

import time
from typing import Any, Callable, TypeVar

import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from ._link import Drop, Exchange, Lost, Pause, Steps
from ._servers import Address, Settings

__all__ = ["Driver"]

T = TypeVar("T")


class Driver:
    """The connections of one producer or consumer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connections: dict[Address, Any] = {}
        #: Waits; can be replaced to wake early.
        self.sleep: Callable[[float], None] = time.sleep

    def run(self, steps: Steps[T]) -> T:
        """Executes all steps, and returns their result."""
        answer: Any = None
        error = None
        while True:
            try:
                step = steps.throw(error) if error else steps.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            answer = error = None
            if isinstance(step, Exchange):
                try:
                    answer = self._exchange(step)
                except Lost as lost:
                    error = lost
            elif isinstance(step, Pause):
                self.sleep(step.seconds)
            else:
                self._drop(step)

    def close(self) -> None:
        self._drop(Drop())

    def _exchange(self, step: Exchange) -> list[Any]:
        connection = self._connections.get(step.address)
        if connection is None:
            connection = self._open(step.address)
        try:
            connection.send_packed_command(step.pieces, check_health=False)
            return [self._reply(connection) for _ in range(step.replies)]
        except (redis.exceptions.RedisError, OSError) as error:
            self._drop(Drop(step.address))
            happened = not isinstance(error, redis.exceptions.BusyLoadingError)
            raise Lost(f"{step.address}: {error}", may_have_happened=happened) from error
        except BaseException:
            # Replies are outstanding, so this connection cannot be used again.
            self._drop(Drop(step.address))
            raise

    @staticmethod
    def _reply(connection: Any) -> Any:
        try:
            return connection.read_response()
        except redis.exceptions.ResponseError as error:
            return error
        except redis.exceptions.AuthenticationError as error:
            return error

    def _open(self, address: Address) -> Any:
        settings = self._settings.of(address)
        settings["retry"] = Retry(NoBackoff(), 0)
        if address.path:
            kind: Any = redis.UnixDomainSocketConnection
        elif self._settings.servers.tls is not None:
            kind = redis.SSLConnection
        else:
            kind = redis.Connection
        if _HAS_PROTOCOL:
            settings["protocol"] = 2
        connection = kind(**settings)
        try:
            connection.connect()
        except (redis.exceptions.RedisError, OSError) as error:
            raise Lost(f"{address}: {error}", may_have_happened=False) from error
        self._connections[address] = connection
        return connection

    def _drop(self, step: Drop) -> None:
        addresses = [step.address] if step.address else list(self._connections)
        for address in addresses:
            connection = self._connections.pop(address, None)
            if connection is not None:
                connection.disconnect()


#: redis-py uses RESP3 by default from 8.0 on, and only RESP2 before 5.0.
_HAS_PROTOCOL = int(redis.__version__.split(".")[0]) >= 5
