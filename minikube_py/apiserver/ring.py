"""Recent events and those who wait for more: a watcher is a cursor into a channel, not a queue of its own.

Each resource has one channel with its events; pods have another one for each node, so that a kubelet's watch neither wakes for nor walks
over other nodes' pods. What flows through: events in at a commit, wake-ups out, once a batch.

What always holds: positions count all events that a channel ever had, so that a cursor which has fallen out is known by its number;
`dropped` is the revision up to which events may be missing; a slow watcher holds nothing but its number.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from operator import attrgetter

from minikube_py.apiserver.entries import Event

_revision = attrgetter("revision")


class Channel:
    """Events in revision order."""

    __slots__ = ("_events", "_first", "_waiters", "dropped", "ended", "users")

    def __init__(self, dropped: int) -> None:
        self._events: list[Event] = []
        self._first = 0
        self._waiters: set[asyncio.Future[None]] = set()
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

    def wake(self) -> None:
        """Tell all who wait that there is more."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Sleep until there is more, or the time is over."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.add(waiter)
        timer = loop.call_later(seconds, _let_go, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiters.discard(waiter)


class Ring:
    """The recent events of a resource, bounded by number and bytes, with a channel a node where the resource has nodes."""

    def __init__(self, revision: int, by_node: bool, max_events: int, max_bytes: int) -> None:
        self.all = Channel(revision)
        self._by_node = by_node
        self._nodes: dict[str, Channel] = {}
        self._max_events, self._max_bytes = max_events, max_bytes
        self._bytes = 0
        self._sizes: deque[int] = deque()

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
        for event in events:
            self.all.append(event)
            # The value, and the line made of it; the value before is counted with the event that brought it.
            self._sizes.append(2 * len(event.entry.value))
            self._bytes += self._sizes[-1]
            if self._by_node:
                for node in _nodes_of(event):
                    channel = self._nodes.get(node)
                    if channel is None:
                        channel = self._nodes[node] = Channel(self.all.dropped)
                    channel.append(event)
                    concerned.add(channel)
        self._bound()
        for channel in concerned:
            channel.wake()

    def end(self) -> None:
        """The resource is gone: watchers wake and end."""
        for channel in (self.all, *self._nodes.values()):
            channel.ended = True
            channel.wake()

    def _bound(self) -> None:
        count = 0
        while self._sizes and (len(self._sizes) > self._max_events or self._bytes > self._max_bytes):
            self._bytes -= self._sizes.popleft()
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


def _let_go(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
