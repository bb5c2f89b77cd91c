"""Send camera frames to Framepress and read its results.

`Producer` sends NumPy arrays and encoded files, through Redis or a frame ring. `Consumer` iterates
over results in a consumer group. `AsyncProducer` and `AsyncConsumer` are the same for asyncio.
`framepress.compat` has the names of the processor that Framepress replaces.
"""

from __future__ import annotations

from .consumer import AsyncConsumer, Consumer, Tally
from .errors import (
    ConfigError,
    FramepressError,
    ImageError,
    QueueFull,
    RedisRefused,
    RedisUnavailable,
    RingBusy,
    RingError,
)
from .producer import AsyncProducer, Counts, Producer, Ring
from .results import Picture, Quality, Result, Roi, Traffic

__version__ = "0.1.0"

__all__ = [
    "AsyncConsumer",
    "AsyncProducer",
    "ConfigError",
    "Consumer",
    "Counts",
    "FramepressError",
    "ImageError",
    "Picture",
    "Producer",
    "Quality",
    "QueueFull",
    "RedisRefused",
    "RedisUnavailable",
    "Result",
    "Ring",
    "RingBusy",
    "RingError",
    "Roi",
    "Tally",
    "Traffic",
    "__version__",
]
