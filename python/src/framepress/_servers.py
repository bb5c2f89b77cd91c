"""Addresses of Redis: the engine's URLs, as far as a program other than the engine can use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .errors import ConfigError

__all__ = ["Address", "Servers", "Settings"]

_SCHEMES = "redis://, rediss://, redis+unix://, redis-sentinel:// or redis-cluster://"


@dataclass(frozen=True)
class Address:
    """One server: a TCP port, or a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""
    is_sentinel: bool = False

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Servers:
    """The servers of one deployment, and the account on them."""

    #: `single`, `sentinel` or `cluster`.
    kind: str
    nodes: tuple[Address, ...]
    service: str = ""
    database: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(
        cls,
        url: str,
        tls: Mapping[str, Any] | None = None,
        sentinel_nodes: Sequence[Mapping[str, Any]] = (),
        sentinel_service_name: str | None = None,
    ) -> Servers:
        """Reads a URL, together with the keys `tls`, `sentinel_nodes` and `sentinel_service_name`.

        Raises:
            ConfigError: The URL has none of the forms in docs/redis.md. The message holds no password.
        """
        scheme, separator, _ = url.partition("://")
        if not separator:
            raise ConfigError(f"the Redis URL has no scheme: {_SCHEMES}")
        if scheme == "embedded":
            raise ConfigError(
                "embedded:// starts a redis-server inside the engine, which no other program reaches"
            )
        try:
            servers = cls._of(scheme, url)
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"the Redis URL {scheme}://... has no valid host or port") from None
        settings = {key: value for key, value in (tls or {}).items() if value is not None}
        if settings:
            servers = replace(servers, tls={**(servers.tls or {}), **settings})
        if sentinel_nodes:
            nodes = tuple(
                Address(str(node["host"]), int(node.get("port", 26379)), is_sentinel=True)
                for node in sentinel_nodes
            )
            servers = replace(servers, kind="sentinel", nodes=nodes)
        if sentinel_service_name and servers.kind == "sentinel":
            servers = replace(servers, service=sentinel_service_name)
        if servers.kind == "sentinel" and not servers.service:
            raise ConfigError("the Sentinels are not told which service: redis-sentinel://host/NAME")
        return servers

    @classmethod
    def _of(cls, scheme: str, url: str) -> Servers:
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if scheme in ("redis+unix", "unix"):
            if not parts.path:
                raise ConfigError("a Unix socket is written redis+unix:///run/redis.sock")
            return cls(
                "single",
                (Address(path=unquote(parts.path)),),
                database=int(query.get("db", 0)),
                username=query.get("user"),
                password=query.get("pass"),
            )
        kinds: dict[str, tuple[str, int, Mapping[str, Any] | None]] = {
            "redis": ("single", 6379, None),
            "rediss": ("single", 6379, {}),
            "redis-sentinel": ("sentinel", 26379, None),
            "redis-cluster": ("cluster", 6379, None),
        }
        if scheme not in kinds:
            raise ConfigError(f"the Redis URL begins with {scheme}://, not {_SCHEMES}")
        kind, port, tls = kinds[scheme]
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        nodes = tuple(
            _address(host, port, kind == "sentinel") for host in hosts.split(",") if host.strip()
        )
        if not nodes:
            nodes = (Address("localhost", port, is_sentinel=kind == "sentinel"),)
        if kind == "single" and len(nodes) > 1:
            raise ConfigError("several hosts belong to redis-sentinel:// or redis-cluster://")
        path = [unquote(part) for part in parts.path.split("/") if part]
        service = path.pop(0) if kind == "sentinel" and path else ""
        return cls(
            kind,
            nodes,
            service,
            database=int(path[0]) if path else int(query.get("db", 0)),
            username=unquote(user) or None,
            password=unquote(password) or None,
            tls=tls,
        )

    def __str__(self) -> str:
        names = ", ".join(str(node) for node in self.nodes)
        return f"{self.service} of {names}" if self.kind == "sentinel" else names


@dataclass(frozen=True)
class Settings:
    """Connection settings."""

    servers: Servers
    connect_timeout: float
    socket_timeout: float

    def of(self, address: Address) -> dict[str, Any]:
        """Arguments of redis-py's connection to a server."""
        servers = self.servers
        is_sentinel = address.is_sentinel
        settings: dict[str, Any] = {
            "db": 0 if is_sentinel or servers.kind == "cluster" else servers.database,
            "username": servers.sentinel_username if is_sentinel else servers.username,
            "password": servers.sentinel_password if is_sentinel else servers.password,
            "socket_timeout": self.socket_timeout,
        }
        if address.path:
            settings["path"] = address.path
            return settings
        settings.update(
            host=address.host,
            port=address.port,
            socket_keepalive=True,
            socket_connect_timeout=self.connect_timeout,
        )
        if servers.tls is not None:
            names = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}
            settings.update({names[key]: servers.tls[key] for key in names if key in servers.tls})
        return settings


def _address(text: str, port: int, is_sentinel: bool) -> Address:
    parts = urlsplit(f"//{text.strip()}")
    return Address(parts.hostname or "localhost", parts.port or port, is_sentinel=is_sentinel)
