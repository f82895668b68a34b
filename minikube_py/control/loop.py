"""The reconciler loop: changes become keys, keys become calls of `reconcile`, failures come back with backoff."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from minikube_py.aio import Health, Turns, cancel
from minikube_py.client.transport import TransportError
from minikube_py.control.informer import Informer
from minikube_py.control.queue import WorkQueue
from minikube_py.meta.errors import Conflict, StatusError

log = logging.getLogger(__name__)


class Watch(NamedTuple):
    """Changes of an informer's objects, and the keys to reconcile because of them. `keys` sees the old view and the new one."""

    informer: Informer[Any]
    keys: Callable[[Any], Iterable[str]] = lambda obj: (obj.key,)


class Paced(float):
    """What `reconcile` returns where it has not looked: seconds until it may. Whatever failed before has not worked by that."""


class Reconciler(Protocol):
    """Brings one thing from what is to what should be. Level-triggered: it looks at the state and never asks which event woke it."""

    name: str

    def watches(self) -> Sequence[Watch]:
        """What it follows."""

    async def reconcile(self, key: str) -> float | None:
        """Reconcile one key; returns the seconds after which to look again, if at all. Raises to be retried with backoff."""


class ControlLoop:
    """Drives one reconciler with a number of workers; one key is never worked on twice at once.

    A `queue` of the caller's own takes keys of other origin than the watches; it is closed at the end. Loops that share `turns` do not
    look all at once at what one change means to each of them.
    """

    def __init__(self, reconciler: Reconciler, workers: int = 5, queue: WorkQueue | None = None, turns: Turns | None = None) -> None:
        self._reconciler, self._workers, self._queue = reconciler, workers, queue
        self._turns = turns or Turns()

    async def run(self, health: Health) -> None:
        """Wait for the informers, then reconcile until cancelled."""
        queue = self._queue or WorkQueue()
        live = True
        watches = self._reconciler.watches()
        for watch in watches:
            await watch.informer.synced.wait()

        def on_change(keys: Callable[[Any], Iterable[str]]) -> Callable[[Any, Any], None]:
            def listener(old: Any, new: Any) -> None:
                if not live:
                    return
                for obj in (old, new):
                    if obj is not None:
                        for key in keys(obj):
                            queue.add(key)

            return listener

        for watch in watches:
            watch.informer.listen(on_change(watch.keys))
        health.well()
        workers = [asyncio.create_task(self._work(queue), name=f"{self._reconciler.name} worker {i}") for i in range(self._workers)]
        try:
            await asyncio.gather(*workers)
        finally:
            live = False
            await cancel(*workers)
            queue.close()

    async def _work(self, queue: WorkQueue) -> None:
        while True:
            key = await queue.get()
            try:
                await self._turns.take()
                again = await self._reconciler.reconcile(key)
            except Conflict as error:
                log.debug("conflict, trying again", extra={"controller": self._reconciler.name, "key": key, "error": str(error)})
                queue.retry(key)
            except (StatusError, TransportError) as error:
                log.warning("reconcile failed", extra={"controller": self._reconciler.name, "key": key, "error": str(error)})
                queue.retry(key)
            except Exception:
                log.exception("reconcile failed", extra={"controller": self._reconciler.name, "key": key})
                queue.retry(key)
            else:
                if not isinstance(again, Paced):
                    queue.forget(key)
                if again is not None:
                    queue.add_after(key, again)
            finally:
                queue.done(key)
