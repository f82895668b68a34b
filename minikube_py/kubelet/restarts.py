"""Back-off memory: how long to wait before something is tried again, doubling with every failure (client-go's flowcontrol.Backoff rules).

Pure but for being a table: times are passed in. Used for crashing containers (10 s to 300 s) and failing image pulls (the same).
"""

from __future__ import annotations

FIRST = 10.0
LIMIT = 300.0


class BackoffTable:
    """Delays in seconds by key. An entry that was not renewed for twice the limit counts as forgotten."""

    def __init__(self, first: float = FIRST, limit: float = LIMIT) -> None:
        self._first, self._limit = first, limit
        self._entries: dict[str, tuple[float, float]] = {}

    def remaining(self, key: str, event: float, now: float) -> float:
        """Seconds until what failed at `event` may be tried again; 0 when it may be now."""
        entry = self._entries.get(key)
        if entry is None:
            return 0.0
        delay, updated = entry
        if event - updated > 2 * self._limit:
            return 0.0
        return max(0.0, event + delay - now)

    def remaining_since_update(self, key: str, now: float) -> float:
        """Seconds until `key` may be tried again, counted from the last `next`."""
        entry = self._entries.get(key)
        if entry is None or now - entry[1] > 2 * self._limit:
            return 0.0
        return max(0.0, entry[1] + entry[0] - now)

    def delay(self, key: str) -> float:
        """The delay that holds for `key` now; 0 when there is none."""
        entry = self._entries.get(key)
        return entry[0] if entry else 0.0

    def next(self, key: str, event: float, now: float) -> None:
        """It is tried again now, after what failed at `event`: the next failure waits longer."""
        entry = self._entries.get(key)
        if entry is None or event - entry[1] > 2 * self._limit:
            self._entries[key] = (self._first, now)
        else:
            self._entries[key] = (min(entry[0] * 2, self._limit), now)

    def forget(self, prefix: str) -> None:
        """Drop every key that begins with `prefix`."""
        for key in [k for k in self._entries if k.startswith(prefix)]:
            del self._entries[key]
