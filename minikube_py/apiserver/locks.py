"""One lock a key, alive only while somebody holds or awaits it: changes of one object run one after another, others beside them."""

from __future__ import annotations

import asyncio
from types import TracebackType


class KeyLocks:
    """`async with locks.hold(key): …`"""

    def __init__(self) -> None:
        self._locks: dict[str, _Hold] = {}

    def __len__(self) -> int:
        return len(self._locks)

    def hold(self, key: str) -> _Hold:
        """The lock of a key, as a context manager that is shared by all who want the key."""
        found = self._locks.get(key)
        if found is None:
            found = self._locks[key] = _Hold(self._locks, key)
        found.users += 1
        return found


class _Hold:
    __slots__ = ("_key", "_lock", "_locks", "users")

    def __init__(self, locks: dict[str, _Hold], key: str) -> None:
        self._locks, self._key = locks, key
        self._lock = asyncio.Lock()
        self.users = 0

    async def __aenter__(self) -> None:
        try:
            await self._lock.acquire()
        except asyncio.CancelledError:
            self._leave()
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._lock.release()
        self._leave()

    def _leave(self) -> None:
        self.users -= 1
        if not self.users:
            self._locks.pop(self._key, None)
