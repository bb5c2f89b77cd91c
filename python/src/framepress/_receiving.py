"""The work of a consumer, as steps: `Consumer` and `AsyncConsumer` execute them.

An entry handed out stays in the group's pending entries list until it is acknowledged. If a consumer
dies, another one of the group claims its pending entries. An entry handed out too often goes to the
dead-letter stream with all its fields, in one script with the acknowledgement.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from ._link import Argument, Backoff, Link, Lost, Pause, Steps, is_response_error, raise_if_error
from ._reading import Options, Tally
from .results import Result

__all__ = ["Receiving"]

#: Lua: stores a dead letter and acknowledges its entry, if the entry is still this consumer's. It
#: stores the letter first, so that a script that runs out of memory has changed nothing.
_BURY = """
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if #pending == 0 or pending[1][2] ~= ARGV[3] then return false end
local id = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', unpack(ARGV, 5))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return id
"""
#: Number of ids acknowledged here to remember, so that a lost group repeats none of them.
_REMEMBERED = 16_384
_PAGE = 100
#: Largest number of values that Redis unpacks in a script.
_VALUES_MAX = 7_800


@dataclass
class Entry:
    """An entry of the group that this consumer holds."""

    stream: str
    id: bytes
    fields: dict[bytes, bytes]
    deliveries: int
    fetched: float


Key = tuple[str, bytes]


@dataclass
class Receiving:
    """The state of one consumer. Not for concurrent use by threads or tasks."""

    link: Link
    options: Options
    is_cluster: bool
    tally: Tally = field(default_factory=Tally)
    stopping: bool = False
    _ready: collections.deque[Entry] = field(default_factory=collections.deque)
    #: Fetched or handed out, and not yet settled.
    _in_hand: dict[Key, Entry] = field(default_factory=dict)
    _done: dict[Key, None] = field(default_factory=dict)
    #: Stream -> the last entry known to be delivered by the group.
    _last: dict[str, bytes] = field(default_factory=dict)
    #: Stream -> the group's first pending entry at the last check.
    _lowest: dict[str, bytes] = field(default_factory=dict)
    _errors: dict[Key, str] = field(default_factory=dict)
    _epoch: int = -1
    _swept: float = 0.0
    _turn: int = 0

    def next(self) -> Steps[Result | None]:
        """The next result; `None` when the consumer is stopped or nothing came for `idle_timeout`.

        Raises:
            RedisUnavailable: Redis was away for `timeout` seconds.
        """
        began = time.monotonic()
        backoff = Backoff()
        while not self.stopping:
            try:
                result = yield from self._next_ready()
                if result is not None:
                    self.tally.delivered += 1
                    return result
                idle = self.options.idle_timeout
                left = None if idle is None else began + idle - time.monotonic()
                yield from self._fetch(left)
                backoff.reset()
                if not self._ready and left is not None and left <= 0:
                    break
            except Lost as lost:
                if not self.stopping:
                    yield from self._wait_after(lost, backoff)
        return None

    def acknowledge(self, result: Result) -> Steps[bool]:
        """Ends an entry. `False`: another consumer had claimed and ended it."""
        key = (result.stream, result.entry_id.encode())
        command = ("XACK", result.stream, self.options.group, result.entry_id)
        count = yield from self._surely(result.stream, command)
        self._settle(key)
        self._remember(key)
        if count:
            self.tally.acknowledged += 1
        else:
            self.tally.acknowledged_elsewhere += 1
        return bool(count)

    def fail(self, result: Result, error: BaseException | None) -> Steps[None]:
        """Leaves an entry pending for another attempt, or ends it after the last one."""
        self.tally.failed += 1
        key = (result.stream, result.entry_id.encode())
        detail = f"{type(error).__name__}: {error}" if error is not None else "not acknowledged"
        entry = self._in_hand.get(key)
        if result.deliveries >= self.options.attempts and entry is not None:
            yield from self._surely_bury(entry, "max_deliveries", detail)
            return
        self._settle(key)
        self._errors[key] = detail
        while len(self._errors) > _REMEMBERED:
            del self._errors[next(iter(self._errors))]

    def reject(self, result: Result, reason: str, detail: str) -> Steps[None]:
        """Moves an entry to the dead-letter stream now."""
        entry = self._in_hand.get((result.stream, result.entry_id.encode()))
        if entry is not None:
            yield from self._surely_bury(entry, reason, detail)

    def close(self) -> Steps[None]:
        """Gives fetched but undelivered entries back to the group, and removes an idle consumer."""
        by_stream: dict[str, list[bytes]] = {}
        for entry in self._ready:
            by_stream.setdefault(entry.stream, []).append(entry.id)
        self._ready.clear()
        options = self.options
        try:
            for stream in options.streams:
                ids = by_stream.get(stream)
                if ids:
                    # As if never delivered, and idle for long enough to be claimed at once.
                    give: list[Argument] = ["XCLAIM", stream, options.group, options.consumer, 0]
                    give += ids
                    give += ("IDLE", options.claim_idle_ms, "RETRYCOUNT", 0, "JUSTID")
                    yield from self.link.call(stream, [give])
                # Deleting a consumer would lose its pending entries.
                (pending,) = yield from self.link.call(
                    stream, [("XPENDING", stream, options.group, "-", "+", 1, options.consumer)]
                )
                if pending == []:
                    yield from self.link.call(
                        stream, [("XGROUP", "DELCONSUMER", stream, options.group, options.consumer)]
                    )
        except Lost:
            return

    # --- delivery

    def _next_ready(self) -> Steps[Result | None]:
        while self._ready:
            entry = self._ready[0]
            age = time.monotonic() - entry.fetched
            if age > self.options.claim_idle_ms / 2000 and not (yield from self._renew(entry)):
                self._ready.popleft()
                self._settle((entry.stream, entry.id))
                self.tally.taken_over += 1
                continue
            try:
                result = Result.parse(
                    entry.stream, entry.id, entry.fields, entry.deliveries, self.options.layout
                )
            except ValueError as error:
                yield from self._bury(entry, "undecodable", str(error))
                self._ready.popleft()
                continue
            self._ready.popleft()
            return result
        return None

    def _renew(self, entry: Entry) -> Steps[bool]:
        """Whether an entry that has waited here for long is still ours; resets its idle time."""
        options = self.options
        (pending,) = yield from self.link.call(
            entry.stream, [("XPENDING", entry.stream, options.group, entry.id, entry.id, 1)]
        )
        if not isinstance(pending, list) or not pending:
            return False
        if pending[0][1] != options.consumer.encode():
            return False
        yield from self.link.call(
            entry.stream,
            [("XCLAIM", entry.stream, options.group, options.consumer, 0, entry.id, "JUSTID")],
        )
        entry.fetched = time.monotonic()
        return True

    # --- fetching

    def _fetch(self, left: float | None) -> Steps[None]:
        options = self.options
        if self._epoch != self.link.epoch:
            is_start = self._epoch < 0
            epoch = self.link.epoch
            for stream in options.streams:
                if is_start:
                    yield from self._make_group(stream, options.start)
                else:
                    yield from self._make_again(stream)
                yield from self._take_own(stream, counts=is_start)
            self._epoch = epoch
            self._swept = 0.0
        # Often enough that no entry waits much longer than the claim time.
        if time.monotonic() - self._swept > min(options.claim_idle_ms / 4000, 5.0):
            for stream in options.streams:
                yield from self._sweep(stream)
            self._swept = time.monotonic()
        if self._ready:
            return
        block = options.block_ms
        if left is not None:
            block = max(1, min(block, int(1000 * left)))
        block = min(block, max(1, options.claim_idle_ms // 4))
        if self.is_cluster and len(options.streams) > 1:
            # One command can only address keys of one slot.
            for _ in options.streams:
                stream = options.streams[self._turn % len(options.streams)]
                self._turn += 1
                yield from self._read((stream,), max(1, block // len(options.streams)))
                if self._ready:
                    return
        else:
            yield from self._read(options.streams, block)

    def _read(self, streams: tuple[str, ...], block: int) -> Steps[None]:
        options = self.options
        command: list[Argument] = ["XREADGROUP", "GROUP", options.group, options.consumer]
        command += ("COUNT", options.batch, "BLOCK", block, "STREAMS")
        command += streams
        command += [">"] * len(streams)
        (reply,) = yield from self.link.call(streams[0], [command])
        if is_response_error(reply, "NOGROUP", "UNBLOCKED"):
            for stream in streams:
                yield from self._make_again(stream)
            return
        for stream, entries in raise_if_error(reply) or []:
            name = stream.decode()
            for found, fields in entries:
                self._last[name] = found
                if (name, found) in self._done:
                    # Delivered again by a recreated group.
                    yield from self.link.call(name, [("XACK", name, options.group, found)])
                else:
                    self._take(name, found, fields, 1)

    def _make_group(self, stream: str, start: str) -> Steps[bool]:
        """Creates the group if it is missing. Returns whether it did."""
        (reply,) = yield from self.link.call(
            stream, [("XGROUP", "CREATE", stream, self.options.group, start, "MKSTREAM")]
        )
        if is_response_error(reply, "BUSYGROUP"):
            return False
        raise_if_error(reply)
        return True

    def _make_again(self, stream: str) -> Steps[None]:
        """Recreates a lost group, positioned before all its pending entries.

        The pending entries list is lost with the group. So the new group begins before the first
        entry that was pending at the last check, or is held here. Entries acknowledged here since
        then are skipped.
        """
        open_here = [entry.id for entry in self._in_hand.values() if entry.stream == stream]
        known = open_here + ([self._lowest[stream]] if stream in self._lowest else [])
        if known:
            start = _before(min(known, key=_order))
        else:
            start = self._last.get(stream, self.options.start.encode()).decode()
        made = yield from self._make_group(stream, start)
        if made:
            self.tally.groups_made_again += 1

    def _take_own(self, stream: str, counts: bool) -> Steps[None]:
        """Takes the entries that are pending for this consumer and that it does not hold.

        After a lost connection these were in a lost reply, which does not count as a new attempt. At
        the start an earlier process of the same name held them, which does count.
        """
        options = self.options
        after = "-"
        while True:
            command = ("XPENDING", stream, options.group, after, "+", _PAGE, options.consumer)
            (page,) = yield from self.link.call(stream, [command])
            if is_response_error(page, "NOGROUP"):
                return
            raise_if_error(page)
            for found, _, _, deliveries in page:
                if (stream, found) in self._in_hand or (stream, found) in self._done:
                    continue
                if (stream, found) in self._errors:
                    continue
                yield from self._claim(stream, found, int(deliveries), 0, counts)
            if len(page) < _PAGE:
                return
            after = f"({page[-1][0].decode()}"

    def _sweep(self, stream: str) -> Steps[None]:
        """Claims entries that were idle for too long, and ends those delivered too often."""
        options = self.options
        summary, groups = yield from self.link.call(
            stream, [("XPENDING", stream, options.group), ("XINFO", "GROUPS", stream)]
        )
        if is_response_error(summary, "NOGROUP"):
            yield from self._make_again(stream)
            return
        raise_if_error(summary)
        if summary[1]:
            self._lowest[stream] = summary[1]
        else:
            self._lowest.pop(stream, None)
        for group in groups if isinstance(groups, list) else ():
            about = dict(zip(group[::2], group[1::2]))
            if about.get(b"name") == options.group.encode():
                self._last[stream] = about[b"last-delivered-id"]
        after = "-"
        while len(self._ready) < options.batch:
            command: list[Argument] = [
                "XPENDING",
                stream,
                options.group,
                "IDLE",
                options.claim_idle_ms,
            ]
            (page,) = yield from self.link.call(stream, [[*command, after, "+", _PAGE]])
            if is_response_error(page, "NOGROUP"):
                return
            raise_if_error(page)
            for found, _, _, deliveries in page:
                if (stream, found) in self._in_hand:
                    continue
                yield from self._claim(stream, found, int(deliveries), options.claim_idle_ms, True)
                if len(self._ready) >= options.batch:
                    return
            if len(page) < _PAGE:
                return
            after = f"({page[-1][0].decode()}"

    def _claim(
        self, stream: str, found: bytes, deliveries: int, idle_ms: int, counts: bool
    ) -> Steps[None]:
        options = self.options
        command: list[Argument] = [
            "XCLAIM",
            stream,
            options.group,
            options.consumer,
            idle_ms,
            found,
        ]
        if not counts:
            command += ("RETRYCOUNT", deliveries)
        claimed, body = yield from self.link.call(stream, [command, ("XRANGE", stream, found, found)])
        raise_if_error(claimed)
        if not raise_if_error(body):
            # Trimmed. Redis 7 removes such an entry by itself, Redis 6.2 leaves it pending forever.
            yield from self.link.one(stream, "XACK", stream, options.group, found)
            self.tally.lost_to_trim += 1
            return
        if not claimed:
            return
        self.tally.claimed += counts
        entry = self._take(stream, found, body[0][1], deliveries + counts)
        if entry is not None and deliveries >= options.attempts and counts:
            self._ready.remove(entry)
            error = self._errors.get((stream, found), "not acknowledged")
            yield from self._bury(entry, "max_deliveries", error)

    def _take(
        self, stream: str, found: bytes, fields: list[bytes] | None, deliveries: int
    ) -> Entry | None:
        if fields is None:
            return None
        key = (stream, found)
        if key in self._in_hand:
            return None
        pairs = dict(zip(fields[::2], fields[1::2]))
        entry = Entry(stream, found, pairs, deliveries, time.monotonic())
        self._in_hand[key] = entry
        self._ready.append(entry)
        return entry

    # --- ending entries

    def _surely(self, stream: str, command: Iterable[Argument]) -> Steps[Any]:
        """Repeats an idempotent command until it is answered."""
        backoff = Backoff()
        while True:
            try:
                return (yield from self.link.one(stream, *command))
            except Lost as lost:
                yield from self._wait_after(lost, backoff)

    def _surely_bury(self, entry: Entry, reason: str, detail: str) -> Steps[None]:
        backoff = Backoff()
        while True:
            try:
                yield from self._bury(entry, reason, detail)
                return
            except Lost as lost:
                yield from self._wait_after(lost, backoff)

    def _bury(self, entry: Entry, reason: str, detail: str) -> Steps[None]:
        """Moves an entry to the dead-letter stream, or only ends it if there is none."""
        options = self.options
        key = (entry.stream, entry.id)
        if not options.dead_letters:
            yield from self.link.one(entry.stream, "XACK", entry.stream, options.group, entry.id)
        else:
            about: list[Argument] = []
            for name, value in entry.fields.items():
                if len(about) < _VALUES_MAX:
                    about += (name, value)
            about += ("original_id", entry.id, "queue", entry.stream, "reason", reason)
            about += ("detail", detail[:1000], "stage", "consume", "deliveries", entry.deliveries)
            about += ("failed_at", repr(time.time()), "consumer_group", options.group)
            to = f"{entry.stream}:dlq"
            limit = options.dead_letter_max_length
            script: list[Argument] = ["EVAL", _BURY, 2, entry.stream, to, options.group, entry.id]
            (buried,) = yield from self.link.call(
                entry.stream, [[*script, options.consumer, limit, *about]]
            )
            if is_response_error(buried, "OOM"):
                raise Lost(f"no memory for a dead letter: {buried}", may_have_happened=False)
            if buried is None:
                self.tally.taken_over += 1
                self._settle(key)
                return
            if isinstance(buried, ResponseError):
                # No right to run scripts, or a Cluster with the two streams in different slots: if the
                # connection breaks between the two steps, the letter is stored twice.
                yield from self.link.one(to, "XADD", to, "MAXLEN", "~", limit, "*", *about)
                yield from self.link.one(entry.stream, "XACK", entry.stream, options.group, entry.id)
        self.tally.dead_lettered += 1
        self._settle(key)
        self._remember(key)

    def _settle(self, key: Key) -> None:
        self._in_hand.pop(key, None)
        self._errors.pop(key, None)

    def _remember(self, key: Key) -> None:
        self._done[key] = None
        while len(self._done) > _REMEMBERED:
            del self._done[next(iter(self._done))]

    def _wait_after(self, lost: Lost, backoff: Backoff) -> Steps[None]:
        self.tally.reconnects = self.link.reconnects
        since = self.link.down_since
        waited = time.monotonic() - since if since is not None else 0.0
        timeout = self.options.timeout
        if self.stopping or (timeout is not None and waited >= timeout):
            raise self.link.gone(lost, waited) from lost
        yield Pause(backoff.step())


def _order(entry: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = entry.partition(b"-")
    return int(milliseconds), int(sequence or 0)


def _before(entry: bytes) -> str:
    """The id just before an entry."""
    milliseconds, sequence = _order(entry)
    if sequence:
        return f"{milliseconds}-{sequence - 1}"
    return f"{milliseconds - 1}-18446744073709551615" if milliseconds else "0-0"
