"""Shared by producers and consumers: servers, and the check for the owning process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ._servers import Servers, Settings
from .errors import FramepressError

__all__ = ["DEFAULT_URL", "Client"]

DEFAULT_URL = "redis://localhost:6379/0"


class Client:
    """A producer or a consumer. It works only in the process that created it, not in a forked child."""

    _what: ClassVar[str]

    def __init__(
        self,
        url: str | None,
        tls: Mapping[str, Any] | None,
        sentinel_nodes: Sequence[Mapping[str, Any]],
        sentinel_service_name: str | None,
    ) -> None:
        self.servers = Servers.parse(
            url or os.environ.get("REDIS_QUEUE__URL") or DEFAULT_URL,
            tls,
            sentinel_nodes,
            sentinel_service_name,
        )
        self._closed = False
        self._process = os.getpid()

    def _start(self, settings: Settings) -> None:
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._closed:
            raise FramepressError(f"this {self._what} is closed")
        if self._process != os.getpid():
            raise FramepressError(
                f"a {self._what} belongs to the process that made it, not to its child"
            )

    def _closes_now(self) -> bool:
        """Marks it as closed; returns whether it was open and belongs to this process."""
        if self._closed or self._process != os.getpid():
            return False
        self._closed = True
        return True
