"""The configurations of the replaced system, and of the engine: flat, nested, or with its sections.

Reads only the keys that a program other than the engine needs. All other keys belong to the engine
or are obsolete, and are ignored.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from .errors import ConfigError

__all__ = ["ConfigSource", "ProcessorConfig", "read_config"]

ConfigSource = Union[Mapping[str, Any], str, "os.PathLike[str]", None]

#: Attribute -> where to look for it; the first one found counts. Nested files have the last forms.
_PLACES: dict[str, tuple[str, ...]] = {
    "redis_url": ("redis_queue.url", "redis_url"),
    "input_queue": ("redis_queue.input_queue", "input_queue"),
    "output_queue": ("redis_queue.output_queue", "output_queue"),
    "consumer_group": (
        "redis_queue.consumer_group",
        "consumer_group",
        "queue_settings.input_queue_config.consumer_group",
    ),
    "enable_compression": (
        "redis_queue.enable_compression",
        "enable_compression",
        "serialization.enable_compression",
        "queue_settings.output_queue_config.enable_compression",
    ),
    "compression_format": (
        "redis_queue.compression_format",
        "compression_format",
        "serialization.compression_format",
    ),
    "compression_quality": (
        "redis_queue.compression_quality",
        "compression_quality",
        "serialization.compression_quality",
    ),
    "quality_threshold": (
        "analysis.quality_threshold",
        "quality_threshold",
        "camera_defaults.quality_threshold",
    ),
    "max_concurrent_streams": ("engine.max_concurrent_streams", "max_concurrent_streams"),
    "shards": ("redis_queue.shards", "shards"),
    "timeout": (
        "redis_queue.timeout",
        "timeout",
        "production_optimizations.connection_timeout",
    ),
    "tls": ("redis_queue.tls", "tls"),
    "sentinel_service_name": ("redis_queue.sentinel_service_name", "sentinel_service_name"),
    "sentinel_nodes": ("redis_queue.sentinel_nodes", "sentinel_nodes"),
    "stats_addr": ("stats.addr", "stats_addr"),
    "stats_token": ("stats.token", "stats_token"),
}
#: Environment variables, used if the configuration does not set the value.
_ENVIRONMENT = {
    "redis_url": "REDIS_QUEUE__URL",
    "input_queue": "REDIS_QUEUE__INPUT_QUEUE",
    "output_queue": "REDIS_QUEUE__OUTPUT_QUEUE",
    "stats_addr": "STATS__ADDR",
    "stats_token": "STATS__TOKEN",
}
_FORMATS = ("jpeg", "png", "webp")


@dataclass(frozen=True)
class ProcessorConfig:
    """The configured values, and defaults for the rest."""

    redis_url: str = field(default="redis://localhost:6379/0", repr=False)
    input_queue: str = "camera_frames"
    output_queue: str = "processed_frames"
    consumer_group: str = "stream_processor"
    enable_compression: bool = True
    compression_format: str = "jpeg"
    compression_quality: int = 85
    quality_threshold: float = 0.0
    max_concurrent_streams: int = 1000
    shards: int = 1
    timeout: float = 30.0
    tls: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sentinel_service_name: str | None = None
    sentinel_nodes: tuple[Mapping[str, Any], ...] = ()
    stats_addr: str = "127.0.0.1:8080"
    stats_token: str | None = field(default=None, repr=False)


def read_config(source: ConfigSource) -> ProcessorConfig:
    """Reads a dictionary, or the path of a JSON or YAML file.

    Raises:
        ConfigError: The file cannot be read, or values are not valid; all of them are named.
    """
    raw = _load(source)
    said: dict[str, Any] = {}
    faults: list[str] = []
    for name, places in _PLACES.items():
        for place in places:
            found, value = _at(raw, place)
            if found and (value is not None or name == "stats_addr"):
                said[name] = _checked(name, place, value, faults)
                break
        else:
            if _ENVIRONMENT.get(name, "") in os.environ:
                said[name] = os.environ[_ENVIRONMENT[name]]
    if faults:
        raise ConfigError("; ".join(faults))
    if said.get("stats_addr") in ("null", "none", "~"):
        said["stats_addr"] = ""
    if "kafka" in raw and "redis_queue" not in raw and "redis_url" not in raw:
        raise ConfigError(
            "a configuration with a kafka section alone: framepress migrate-config converts it"
        )
    return ProcessorConfig(**said)


def _load(source: ConfigSource) -> Mapping[str, Any]:
    if source is None:
        return {}
    if isinstance(source, Mapping):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise ConfigError(f"a configuration is a dictionary or a path, not {type(source).__name__}")
    path = pathlib.Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8") from error
    if path.suffix in (".yaml", ".yml"):
        try:
            import yaml
        except ImportError:
            raise ConfigError(f"{path}: pip install framepress[yaml], or use JSON") from None
        try:
            loaded = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: {error}") from error
    else:
        try:
            loaded = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error
    if not isinstance(loaded, Mapping):
        raise ConfigError(f"{path}: not a mapping of keys")
    return loaded


def _at(raw: Mapping[str, Any], place: str) -> tuple[bool, Any]:
    value: Any = raw
    for part in place.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value


def _checked(name: str, place: str, value: Any, faults: list[str]) -> Any:
    default = getattr(ProcessorConfig(), name)
    if name == "stats_addr":
        return "" if value is None else str(value)
    if name in ("tls",):
        return value if isinstance(value, Mapping) else faults.append(f"{place}: a mapping")
    if name == "sentinel_nodes":
        good = isinstance(value, (list, tuple)) and all(
            isinstance(node, Mapping) and "host" in node for node in value
        )
        if not good:
            faults.append(f"{place}: a list of {{host, port}}")
            return ()
        return tuple(value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            faults.append(f"{place}: {value!r} is neither true nor false")
        return value
    if isinstance(default, (int, float)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            faults.append(f"{place}: {value!r} is not a number")
        elif name == "compression_quality" and not 1 <= value <= 100:
            faults.append(f"{place}: {value!r} is not between 1 and 100")
        elif value < 0 or (name == "shards" and value < 1):
            faults.append(f"{place}: {value!r} is too small")
        return value
    if not isinstance(value, str):
        # A URL may hold a password.
        faults.append(f"{place}: a text")
    elif name == "compression_format" and value not in _FORMATS:
        faults.append(f"{place}: {value!r} is none of {', '.join(_FORMATS)}")
    return value
