"""The scheduling queue: pods ready to be decided on, pods that wait out a backoff, pods that no node can take at present.

Pure: the time comes in. A pod that was rejected waits until something changes that could help it (the caller says what), or five minutes;
each failure doubles its backoff from one second to ten. As upstream since 1.33, a rejected pod need not sit its backoff out while nothing
else waits; one whose attempt broke on an error does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from minikube_py.scheduler.podinfo import PodInfo

INITIAL_BACKOFF = 1.0
MAX_BACKOFF = 10.0
UNSCHEDULABLE_TIMEOUT = 300.0


class Queued:
    """A pod in the queue. Times are the caller's monotonic seconds."""

    __slots__ = ("attempts", "backoff_until", "failed_by_error", "info", "place", "plugins", "since", "ticket")

    def __init__(self, info: PodInfo, now: float) -> None:
        self.info = info
        self.attempts = 0
        self.since = now
        self.backoff_until = 0.0
        self.failed_by_error = False
        self.place = ""
        self.plugins: frozenset[str] = frozenset()
        """Who rejected it last."""
        self.ticket = 0


class SchedulingQueue:
    """Pods to be scheduled, each in one place."""

    def __init__(self) -> None:
        self._pods: dict[str, Queued] = {}
        self._active: list[tuple[int, float, int, Queued]] = []
        self._backoff: list[tuple[float, int, Queued]] = []
        self._unschedulable: dict[str, Queued] = {}
        self._ticket = 0

    def __len__(self) -> int:
        return len(self._pods)

    def __contains__(self, uid: str) -> bool:
        return uid in self._pods

    def where(self, uid: str) -> str:
        """ "active", "backoff", "unschedulable", "popped", or "" for a pod that is not here."""
        queued = self._pods.get(uid)
        return (queued.place or "popped") if queued is not None else ""

    def add(self, info: PodInfo, now: float) -> None:
        """A pod to be scheduled. One that is here already is only brought up to date."""
        queued = self._pods.get(info.uid)
        if queued is None:
            queued = self._pods[info.uid] = Queued(info, now)
            self._activate(queued)
        else:
            queued.info = info

    def changed(self, info: PodInfo, now: float) -> None:
        """The pod itself changed in a way that may help it."""
        queued = self._pods.get(info.uid)
        if queued is None:
            self.add(info, now)
            return
        queued.info = info
        if queued.place == "unschedulable":
            del self._unschedulable[info.uid]
            self._release(queued, now)
        elif queued.place == "active":
            self._activate(queued)

    def remove(self, uid: str) -> None:
        """The pod need not be scheduled any more."""
        queued = self._pods.pop(uid, None)
        if queued is not None:
            self._unschedulable.pop(uid, None)
            queued.place = ""
            queued.ticket = -1

    def pop(self, now: float) -> Queued | None:
        """The pod to decide on next: the highest priority first, then the one that waits longest. None where none is ready."""
        self._flush(now)
        while self._active:
            _, _, ticket, queued = heapq.heappop(self._active)
            if queued.place == "active" and queued.ticket == ticket:
                return self._popped(queued)
        early: list[tuple[float, int, Queued]] = []
        found = None
        while self._backoff and found is None:
            entry = heapq.heappop(self._backoff)
            if entry[2].place != "backoff" or entry[2].ticket != entry[1]:
                continue
            if entry[2].failed_by_error:
                early.append(entry)
            else:
                found = entry[2]
        for entry in early:
            heapq.heappush(self._backoff, entry)
        return self._popped(found) if found is not None else None

    def _popped(self, queued: Queued) -> Queued:
        queued.place = ""
        queued.attempts += 1
        return queued

    def rejected(self, queued: Queued, now: float, plugins: frozenset[str] = frozenset()) -> None:
        """No node can take the pod at present; by whose verdicts."""
        if self._pods.get(queued.info.uid) is not queued:
            return
        self._fail(queued, now, by_error=False)
        queued.place = "unschedulable"
        queued.plugins = plugins
        self._unschedulable[queued.info.uid] = queued

    def failed(self, queued: Queued, now: float) -> None:
        """The attempt broke on an error (binding, usually): again after the backoff."""
        if self._pods.get(queued.info.uid) is not queued:
            return
        self._fail(queued, now, by_error=True)
        self._release(queued, now)

    def _fail(self, queued: Queued, now: float, *, by_error: bool) -> None:
        queued.since = now
        queued.failed_by_error = by_error
        queued.backoff_until = now + min(INITIAL_BACKOFF * 2 ** min(queued.attempts - 1, 10), MAX_BACKOFF)

    def unschedulable(self) -> Iterable[PodInfo]:
        """The pods that wait for a change."""
        return (queued.info for queued in self._unschedulable.values())

    def move(self, could_help: Callable[[Queued], bool], now: float) -> int:
        """Something changed: release the pods that it could help. Gives their number."""
        moved = [queued for queued in self._unschedulable.values() if could_help(queued)]
        for queued in moved:
            del self._unschedulable[queued.info.uid]
            self._release(queued, now)
        return len(moved)

    def next_due(self, now: float) -> float | None:
        """Seconds until a wait of some pod ends by itself; None where no pod waits."""
        while self._backoff and (self._backoff[0][2].place != "backoff" or self._backoff[0][2].ticket != self._backoff[0][1]):
            heapq.heappop(self._backoff)
        dues = [self._backoff[0][0]] if self._backoff else []
        if self._unschedulable:
            # kept in the order of their failures: the first has waited longest
            dues.append(next(iter(self._unschedulable.values())).since + UNSCHEDULABLE_TIMEOUT)
        return max(0.0, min(dues) - now) if dues else None

    def _flush(self, now: float) -> None:
        while self._backoff and self._backoff[0][0] <= now:
            _, ticket, queued = heapq.heappop(self._backoff)
            if queued.place == "backoff" and queued.ticket == ticket:
                self._activate(queued)
        while self._unschedulable:
            uid, queued = next(iter(self._unschedulable.items()))
            if queued.since + UNSCHEDULABLE_TIMEOUT > now:
                break
            del self._unschedulable[uid]
            self._release(queued, now)

    def _release(self, queued: Queued, now: float) -> None:
        if queued.backoff_until <= now:
            self._activate(queued)
            return
        self._ticket += 1
        queued.place, queued.ticket = "backoff", self._ticket
        heapq.heappush(self._backoff, (queued.backoff_until, self._ticket, queued))

    def _activate(self, queued: Queued) -> None:
        self._ticket += 1
        queued.place, queued.ticket = "active", self._ticket
        heapq.heappush(self._active, (-queued.info.priority, queued.since, self._ticket, queued))
