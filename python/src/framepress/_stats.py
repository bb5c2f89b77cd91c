"""Client of the engine's statistics server."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from typing import Any

__all__ = ["Stats"]

#: Short, as the server is near and the caller may be an event loop, which blocks meanwhile.
_TIMEOUT = 0.5
#: How long an answer, or its absence, is cached, in seconds.
_FRESH = 0.25
_BYTES_MAX = 16 << 20


class Stats:
    """The figures of one engine. `None` if it cannot be reached."""

    def __init__(self, addr: str, token: str | None) -> None:
        """`addr` is HOST:PORT or a URL; empty for no server."""
        parts = urllib.parse.urlsplit(addr if "://" in addr else f"http://{addr}")
        self._is_tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        # An engine that listens on all addresses is reached on the loopback interface.
        if self._host in ("0.0.0.0", "::"):
            self._host = "127.0.0.1" if self._host == "0.0.0.0" else "::1"
        self._port = parts.port or (443 if self._is_tls else 80)
        self._token = token
        self._known: dict[str, tuple[float, Any]] = {}

    def metrics(self) -> dict[str, Any] | None:
        """`/api/v1/system/metrics`."""
        found = self._get("/api/v1/system/metrics")
        return found if isinstance(found, dict) else None

    def camera(self, camera_id: str) -> dict[str, Any] | None:
        """`/api/v1/cameras/{id}`; `None` also for a camera that the engine has not seen."""
        found = self._get(f"/api/v1/cameras/{urllib.parse.quote(camera_id, safe='')}")
        return found if isinstance(found, dict) else None

    def _get(self, path: str) -> Any:
        now = time.monotonic()
        at, found = self._known.get(path, (-_FRESH, None))
        if now - at < _FRESH:
            return found
        found = self._ask(path)
        if len(self._known) > 4096:
            self._known.clear()
        self._known[path] = (time.monotonic(), found)
        return found

    def _ask(self, path: str) -> Any:
        if not self._host:
            return None
        kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=_TIMEOUT)
        headers = {"Connection": "close", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read(_BYTES_MAX)
            return json.loads(body) if answer.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
