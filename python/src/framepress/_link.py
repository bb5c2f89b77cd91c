"""Commands to Redis, without I/O: `Link` decides what to send where, and interprets the replies.

All Redis communication is written once, as generators of steps. A driver executes the steps:
`_sync.Driver` blocks, `_aio.Driver` awaits. Bulk strings may consist of several pieces, so pixels go
from the caller's array to the socket without a copy.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, Union

from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError

from ._servers import Address, Servers
from .errors import RedisRefused, RedisUnavailable

__all__ = [
    "Argument",
    "Backoff",
    "Blob",
    "Drop",
    "Exchange",
    "Link",
    "Lost",
    "Pause",
    "Step",
    "Steps",
    "code_of",
    "raise_if_error",
]

Piece = Union[bytes, memoryview]


@dataclass(frozen=True)
class Blob:
    """One argument in several pieces."""

    pieces: Sequence[Piece]


Argument = Union[bytes, str, int, float, Blob]


@dataclass(frozen=True)
class Exchange:
    """Sends to a server, connecting if necessary, and reads `replies` replies.

    Returns a list of them, with errors of the server as `ResponseError`. Raises `Lost`.
    """

    address: Address
    pieces: list[Piece]
    replies: int


@dataclass(frozen=True)
class Drop:
    """Close the connection to a server, or to all."""

    address: Address | None = None


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


Step = Union[Exchange, Drop, Pause]
T = TypeVar("T")
Steps = Generator[Step, Any, T]


class Lost(Exception):
    """The connection broke, or could not be made, or the server cannot serve at present.

    `may_have_happened` says whether the server may have executed the commands.
    """

    def __init__(self, reason: str, may_have_happened: bool) -> None:
        super().__init__(reason)
        self.may_have_happened = may_have_happened


@dataclass
class Backoff:
    """Growing pauses between attempts."""

    first: float = 0.02
    longest: float = 0.5
    next: float = 0.0

    def reset(self) -> None:
        self.next = 0.0

    def step(self) -> float:
        self.next = min(max(self.first, 2 * self.next), self.longest)
        return self.next


#: Errors after which another server, or the same one a moment later, can serve.
_PASSING = {
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "UNBLOCKED",
    "NOREPLICAS",
    "BUSY",
    "MOVED",
    "ASK",
}
#: redis-py removes the code from the text of these.
_CODES = {
    "ReadOnlyError": "READONLY",
    "BusyLoadingError": "LOADING",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "MovedError": "MOVED",
    "AskError": "ASK",
    "NoScriptError": "NOSCRIPT",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "AuthenticationError": "NOAUTH",
    "AuthenticationWrongNumberOfArgsError": "NOAUTH",
    "ExecAbortError": "EXECABORT",
}


def code_of(error: BaseException) -> str:
    """The code at the beginning of a server's error."""
    text = str(error)
    first = text.split(" ", 1)[0]
    known = _CODES.get(type(error).__name__, first)
    if "command not allowed when used memory" in text:
        return "OOM"
    return known


def raise_if_error(reply: Any) -> Any:
    """Returns the reply; raises if it is a permanent error of the server."""
    if isinstance(reply, RedisError):
        raise RedisRefused(f"Redis refused: {reply}") from reply
    return reply


def pack(command: Sequence[Argument], into: list[Piece]) -> None:
    """Appends a command as RESP; small neighbours share one piece."""
    text = bytearray(b"*%d\r\n" % len(command))
    for argument in command:
        if isinstance(argument, Blob):
            length = sum(len(piece) for piece in argument.pieces)
            text += b"$%d\r\n" % length
            for piece in argument.pieces:
                if len(piece) < 4096:
                    text += piece
                else:
                    into.append(bytes(text))
                    into.append(piece)
                    text = bytearray()
            text += b"\r\n"
            continue
        if isinstance(argument, bytes):
            value = argument
        elif isinstance(argument, str):
            value = argument.encode()
        else:
            value = repr(argument).encode()
        text += b"$%d\r\n%b\r\n" % (len(value), value)
    into.append(bytes(text))


@dataclass
class Link:
    """One caller's connection to the server that has a key."""

    servers: Servers
    #: How often a connection was lost or left.
    reconnects: int = 0
    #: Time since which no server has answered, by the monotonic clock.
    down_since: float | None = None
    #: Increases by one whenever a connection was lost.
    epoch: int = 0
    _homes: dict[str, Address] = field(default_factory=dict)
    _asking: set[str] = field(default_factory=set)
    _next_node: int = 0

    def call(self, key: str, commands: Sequence[Sequence[Argument]]) -> Steps[list[Any]]:
        """Sends commands that concern one key, and returns a reply for each.

        Raises:
            Lost: Either nothing was executed, or all of it may have been; a retry may help.
            RedisRefused: The server does not accept this account.
        """
        address = None
        try:
            address = yield from self._home(key)
            pieces: list[Piece] = []
            extra = 0
            if key in self._asking:
                self._asking.discard(key)
                self._homes.pop(key, None)
                extra = 1
                for command in commands:
                    pack(("ASKING",), pieces)
                    pack(command, pieces)
            else:
                for command in commands:
                    pack(command, pieces)
            replies: list[Any] = yield Exchange(address, pieces, len(commands) * (1 + extra))
        except Lost as lost:
            yield from self._leave(key, address)
            cause = lost.__cause__
            if isinstance(cause, (AuthenticationError, AuthorizationError)):
                raise RedisRefused(f"Redis at {address} refused: {cause}") from cause
            raise
        self.down_since = None
        replies = replies[extra :: 1 + extra]
        passing = [e for e in replies if isinstance(e, RedisError) and code_of(e) in _PASSING]
        if passing:
            yield from self._follow(key, address, passing[0])
            done = len(passing) < len(replies)
            raise Lost(f"{code_of(passing[0])} from {address}", may_have_happened=done)
        for reply in replies:
            if isinstance(reply, (AuthenticationError, AuthorizationError)):
                raise RedisRefused(f"Redis at {address} refused: {reply}") from reply
        return replies

    def one(self, key: str, *command: Argument) -> Steps[Any]:
        """Sends one command and returns its reply; raises `RedisRefused` for an error reply."""
        replies = yield from self.call(key, [command])
        return raise_if_error(replies[0])

    def _home(self, key: str) -> Steps[Address]:
        home = self._homes.get(key)
        if home is None:
            if self.servers.kind == "sentinel":
                home = yield from self._primary()
            else:
                home = self.servers.nodes[self._next_node % len(self.servers.nodes)]
            self._homes[key] = home
        return home

    def _primary(self) -> Steps[Address]:
        """The server that a Sentinel names and whose own role is primary."""
        reason = "no Sentinel answered"
        for _ in self.servers.nodes:
            sentinel = self.servers.nodes[self._next_node % len(self.servers.nodes)]
            pieces: list[Piece] = []
            pack(("SENTINEL", "get-master-addr-by-name", self.servers.service), pieces)
            try:
                (named,) = yield Exchange(sentinel, pieces, 1)
                if isinstance(named, list):
                    primary = Address(named[0].decode(), int(named[1]))
                    pieces = []
                    pack(("ROLE",), pieces)
                    (role,) = yield Exchange(primary, pieces, 1)
                    if isinstance(role, list) and role[0] == b"master":
                        return primary
                    yield Drop(primary)
                    reason = f"{primary} is no primary yet"
                else:
                    reason = f"{sentinel} does not know {self.servers.service}"
            except Lost as lost:
                reason = str(lost)
            self._next_node += 1
        raise Lost(reason, may_have_happened=False)

    def _leave(self, key: str, address: Address | None) -> Steps[None]:
        self.epoch += 1
        self.reconnects += 1
        if self.down_since is None:
            self.down_since = time.monotonic()
        self._homes.pop(key, None)
        self._next_node += 1
        if address is not None:
            yield Drop(address)

    def _follow(self, key: str, address: Address, error: RedisError) -> Steps[None]:
        """Follows a redirection of a Cluster node, or leaves the server."""
        code = code_of(error)
        if code in ("MOVED", "ASK"):
            host, _, port = str(error).rsplit(" ", 1)[-1].rpartition(":")
            self._homes[key] = Address(host or address.host, int(port))
            if code == "ASK":
                self._asking.add(key)
        elif code in ("READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED"):
            yield from self._leave(key, address)

    def gone(self, lost: Lost, waited: float) -> RedisUnavailable:
        """The error for a caller that has waited until its timeout."""
        return RedisUnavailable(f"Redis at {self.servers} is away for {waited:.1f} s: {lost}")


def is_response_error(reply: Any, *codes: str) -> bool:
    """Whether a reply is an error of the server with one of the codes."""
    return isinstance(reply, ResponseError) and code_of(reply) in codes
