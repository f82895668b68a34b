"""Recent events and those who wait for more: a watcher is a cursor into a channel, not a queue of its own.

Each resource has one channel with its events; pods have another one for each node, so that a kubelet's watch neither wakes for nor walks
over other nodes' pods. What flows through: events in at a commit, wake-ups out, once a batch.

Many watchers are woken in rounds: some at a time, so that others have their turn between, and under sustained writes no sooner again than
they may have been served (a tenth of a millisecond each). The first change after a rest is told at once; those that come fast are told
together, which costs little more than one of them, so that the writers are not starved by those who watch.

What always holds: positions count all events that a channel ever had, so that a cursor which has fallen out is known by its number;
`dropped` is the revision up to which events may be missing; a slow watcher holds nothing but its number.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from minikube_py.apiserver.entries import Event

SHARE = 0.0001
"""Seconds that a round leaves to each watcher before the next one begins."""
LONGEST = 0.05
"""Seconds that events wait for the next round at most."""
_AT_ONCE = 64
"""Watchers that are woken in one turn of the loop."""

_revision = attrgetter("revision")


class Sleeper:
    """A watcher that waits: for its channel, or until a time. The timer outlives a single wait, since it is what is set for seldom."""

    __slots__ = ("_at", "_channel", "_loop", "_timer", "_waiter")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0

    async def sleep(self, until: float) -> None:
        """Return when there is more in the channel, or when it is `until` by the loop's clock."""
        if until != self._at or self._timer is None:
            if self._timer is not None:
                self._timer.cancel()
            self._at, self._timer = until, self._loop.call_at(until, self._ring)
        self._waiter = self._loop.create_future()
        self._channel.sleepers[self] = None
        try:
            await self._waiter
        finally:
            self._channel.sleepers.pop(self, None)

    def wake(self) -> None:
        """There is more."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """The watcher has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        self.wake()


class Channel:
    """Events in revision order. `told` is what has been made of them for the watchers who are being woken now, for those who come next."""

    __slots__ = ("_again", "_events", "_first", "_next_round", "_round", "dropped", "ended", "sleepers", "told", "users")

    def __init__(self, dropped: int) -> None:
        self._events: list[Event] = []
        self._first = 0
        self._round: asyncio.Handle | None = None
        self._next_round = 0.0
        self._again = False
        self.sleepers: dict[Sleeper, None] = {}
        self.told: dict[object, Sequence[bytes]] = {}
        self.dropped = dropped
        self.users = 0
        self.ended = False

    def __len__(self) -> int:
        return len(self._events)

    def position(self, revision: int) -> int | None:
        """The cursor of one who has seen everything up to a revision; None where later events have been dropped already."""
        if revision < self.dropped:
            return None
        return self._first + bisect_right(self._events, revision, key=_revision)

    def after(self, position: int) -> Sequence[Event] | None:
        """The events from a cursor on; None where it has been overrun."""
        start = position - self._first
        return None if start < 0 else self._events[start:]

    def append(self, event: Event) -> None:
        """Take the newest event. Nobody wakes yet."""
        self._events.append(event)

    def drop(self, count: int) -> Sequence[Event]:
        """Let go of the oldest events."""
        gone = self._events[:count]
        if gone:
            del self._events[:count]
            self._first += count
            self.dropped = gone[-1].revision
        return gone

    @property
    def in_round(self) -> bool:
        """Whether others are being woken, or will be, for the same events."""
        return self._round is not None

    def wake(self) -> None:
        """Tell all who wait that there is more: now, or in the next round."""
        if self._round is not None:
            self._again = True
            return
        if not self.sleepers:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._next_round:
            self._begin(loop, now)
        else:
            self._round = loop.call_at(self._next_round, self._begin, loop, self._next_round)

    def _begin(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        waiting, self._again = list(self.sleepers), False
        self._next_round = now + min(len(waiting) * SHARE, LONGEST)
        self._go_on(loop, waiting)

    def _go_on(self, loop: asyncio.AbstractEventLoop, waiting: list[Sleeper]) -> None:
        for sleeper in waiting[:_AT_ONCE]:
            sleeper.wake()
        rest = waiting[_AT_ONCE:]
        # Behind those who have just been woken, so that each of them finds what the first one has made.
        self._round = loop.call_soon(self._go_on, loop, rest) if rest else loop.call_soon(self._end)

    def _end(self) -> None:
        self._round = None
        self.told.clear()
        if self._again:
            self.wake()


class Bounds(NamedTuple):
    """How much of the recent past one resource keeps: events, bytes of their objects, and seconds (as many as upstream's watch cache holds
    them for at least). What is older comes from the log."""

    events: int = 2048
    bytes: int = 4 << 20
    seconds: float = 75.0


class _Kept(NamedTuple):
    since: float
    size: int


class Ring:
    """The recent events of a resource, within bounds, with a channel a node where the resource has nodes."""

    def __init__(self, revision: int, by_node: bool, bounds: Bounds) -> None:
        self.all = Channel(revision)
        self._by_node = by_node
        self._nodes: dict[str, Channel] = {}
        self._bounds = bounds
        self._bytes = 0
        self._kept: deque[_Kept] = deque()
        self._ageing: asyncio.TimerHandle | None = None

    def open(self, node: str | None) -> Channel:
        """The channel that a watcher reads, until `close`."""
        if node is None or not self._by_node:
            return self.all
        channel = self._nodes.get(node)
        if channel is None:
            channel = self._nodes[node] = Channel(self.all.dropped)
        channel.users += 1
        return channel

    def close(self, node: str | None, channel: Channel) -> None:
        """The watcher has ended."""
        if channel is not self.all:
            channel.users -= 1
            self._tidy(node or "", channel)

    def add(self, events: Sequence[Event]) -> None:
        """Take the events of one commit, drop what is over the bounds, and wake whom it concerns."""
        concerned = {self.all}
        loop = asyncio.get_running_loop()
        now = loop.time()
        for event in events:
            self.all.append(event)
            # The value before is counted with the event that brought it.
            size = len(event.entry.value)
            self._kept.append(_Kept(now, size))
            self._bytes += size
            if self._by_node:
                for node in _nodes_of(event):
                    channel = self._nodes.get(node)
                    if channel is None:
                        channel = self._nodes[node] = Channel(self.all.dropped)
                    channel.append(event)
                    concerned.add(channel)
        self._bound(now)
        if self._ageing is None and self._kept:
            self._ageing = loop.call_later(self._bounds.seconds, self._age)
        for channel in concerned:
            channel.wake()

    def end(self) -> None:
        """The resource is gone: watchers wake and end."""
        if self._ageing is not None:
            self._ageing.cancel()
        for channel in (self.all, *self._nodes.values()):
            channel.ended = True
            channel.wake()

    def _age(self) -> None:
        self._ageing = None
        loop = asyncio.get_running_loop()
        self._bound(loop.time())
        if self._kept:
            self._ageing = loop.call_at(self._kept[0].since + self._bounds.seconds, self._age)

    def _bound(self, now: float) -> None:
        bounds, kept = self._bounds, self._kept
        count = 0
        while kept and (len(kept) > bounds.events or self._bytes > bounds.bytes or kept[0].since <= now - bounds.seconds):
            self._bytes -= kept.popleft().size
            count += 1
        for event in self.all.drop(count):
            if self._by_node:
                for node in _nodes_of(event):
                    channel = self._nodes[node]
                    channel.drop(1)
                    self._tidy(node, channel)

    def _tidy(self, node: str, channel: Channel) -> None:
        if not channel.users and not len(channel) and self._nodes.get(node) is channel:
            del self._nodes[node]


def _nodes_of(event: Event) -> set[str]:
    nodes = {event.entry.node}
    if event.previous is not None:
        nodes.add(event.previous.node)
    nodes.discard("")
    return nodes
