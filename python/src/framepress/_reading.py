"""The settings of a consumer, and its counters."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ConfigError

__all__ = ["Options", "Tally"]


@dataclass
class Tally:
    """Counters of a consumer."""

    #: Results handed out, repetitions included.
    delivered: int = 0
    #: Results acknowledged.
    acknowledged: int = 0
    #: Results whose acknowledgement came too late: another consumer had claimed and finished them.
    acknowledged_elsewhere: int = 0
    #: Results left pending after a failure, to be handed out again.
    failed: int = 0
    #: Entries claimed from a stopped consumer, or after a failure.
    claimed: int = 0
    #: Entries moved to the dead-letter stream.
    dead_lettered: int = 0
    #: Pending entries whose bodies had been trimmed from the stream.
    lost_to_trim: int = 0
    #: Entries fetched here that another consumer claimed before they were handed out.
    taken_over: int = 0
    #: How often the group was missing and was created again.
    groups_made_again: int = 0
    #: Connections lost.
    reconnects: int = 0


@dataclass(frozen=True)
class Options:
    """Checked settings of a consumer."""

    streams: tuple[str, ...]
    group: str
    consumer: str
    start: str = "0"
    batch: int = 16
    block_ms: int = 1000
    claim_idle_ms: int = 30_000
    attempts: int = 3
    dead_letters: bool = True
    dead_letter_max_length: int = 10_000
    layout: str = "bgr24"
    timeout: float | None = None
    idle_timeout: float | None = None

    def __post_init__(self) -> None:
        if not self.group:
            raise ConfigError("group: the name of the consumer group")
        if self.layout not in ("bgr24", "rgb24"):
            raise ConfigError(f"layout {self.layout!r}: bgr24 or rgb24")
        if not 1 <= self.batch <= 1000:
            raise ConfigError(f"batch {self.batch}: 1 to 1000")
        if not 1 <= self.block_ms <= 10_000:
            raise ConfigError(f"block_ms {self.block_ms}: 1 to 10000")
        if self.claim_idle_ms < 1 or self.attempts < 1:
            raise ConfigError("claim_idle_ms and attempts are 1 or more")
