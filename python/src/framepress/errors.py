"""The errors of this package."""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "FramepressError",
    "ImageError",
    "QueueFull",
    "RedisRefused",
    "RedisUnavailable",
    "RingBusy",
    "RingError",
]


class FramepressError(Exception):
    """The base of all errors of this package."""


class ImageError(FramepressError, ValueError):
    """An image has a shape, dtype, layout or size that cannot be sent, or cannot be decoded."""


class ConfigError(FramepressError, ValueError):
    """A setting is missing, unknown or out of range."""


class QueueFull(FramepressError, TimeoutError):
    """The stream or the ring had no room within the timeout. The frame was not sent."""


class RedisUnavailable(FramepressError, ConnectionError):
    """Redis could not be reached within the timeout.

    If the connection broke after a frame was sent and Redis did not come back, the frame may have
    arrived.
    """


class RedisRefused(FramepressError):
    """Redis answered with a permanent error: NOAUTH, NOPERM, WRONGTYPE."""


class RingError(FramepressError, OSError):
    """A frame ring could not be created: no directory, no memory, a frame larger than its slots."""


class RingBusy(RingError):
    """Another producer holds the ring, or frames of the earlier ring of this name still wait."""
