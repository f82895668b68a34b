"""The ConfigMaps and Secrets that this node's pods refer to, each followed by a watch of its own while a pod refers to it.

One watch an object, since a node may read only what its pods refer to. What always holds: an object is followed from the first pod that
needs it to the last; a change wakes the pods that refer to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Generic

from minikube_py.aio import cancel
from minikube_py.client import Client
from minikube_py.control import Informer
from minikube_py.types.meta import V

_SYNC_TIMEOUT = 30.0


class ObjectsUnavailable(Exception):
    """The API does not answer for an object that a pod refers to."""


class _Followed(Generic[V]):
    def __init__(self, informer: Informer[V], task: asyncio.Task[None]) -> None:
        self.informer, self.task = informer, task
        self.users: set[str] = set()


class ReferencedObjects(Generic[V]):
    """Objects of one kind that pods refer to. `changed(uid)` is called for every pod that refers to an object that changed."""

    def __init__(self, client: Client, view: type[V], changed: Callable[[str], None]) -> None:
        self._client, self._view, self._changed = client, view, changed
        self._followed: dict[tuple[str, str], _Followed[V]] = {}
        self._of_user: dict[str, set[tuple[str, str]]] = {}

    async def require(self, uid: str, namespace: str, names: Iterable[str]) -> None:
        """Follow exactly these objects for a pod, and wait until each is known to be there or not. Raises ObjectsUnavailable."""
        wanted = {(namespace, name) for name in names if name}
        had = self._of_user.get(uid, set())
        for key in had - wanted:
            self._release(uid, key)
        for key in wanted - had:
            self._follow(uid, key)
        if wanted:
            self._of_user[uid] = wanted
        else:
            self._of_user.pop(uid, None)
        waits = [self._followed[key].informer.synced.wait() for key in wanted if not self._followed[key].informer.synced.is_set()]
        if waits:
            try:
                async with asyncio.timeout(_SYNC_TIMEOUT):
                    await asyncio.gather(*waits)
            except TimeoutError:
                missing = [k[1] for k in wanted if k in self._followed and not self._followed[k].informer.synced.is_set()]
                raise ObjectsUnavailable(f"failed to sync {self._view.resource.kind} cache: timed out waiting for {missing}") from None

    def get(self, namespace: str, name: str) -> V | None:
        """The object as it is now; None when it does not exist or nobody required it."""
        followed = self._followed.get((namespace, name))
        return followed.informer.get(f"{namespace}/{name}") if followed is not None else None

    def release(self, uid: str) -> None:
        """The pod is gone."""
        for key in self._of_user.pop(uid, set()):
            self._release(uid, key)

    async def close(self) -> None:
        """Stop following everything."""
        await cancel(*(followed.task for followed in self._followed.values()))
        self._followed.clear()
        self._of_user.clear()

    def _follow(self, uid: str, key: tuple[str, str]) -> None:
        followed = self._followed.get(key)
        if followed is None:
            namespace, name = key
            informer = Informer(self._client, self._view, namespace=namespace, field_selector=f"metadata.name={name}")
            task = asyncio.create_task(informer.run(), name=f"follow {self._view.resource.plural} {namespace}/{name}")
            followed = self._followed[key] = _Followed(informer, task)
            users = followed.users

            def changed(_old: Any, _new: Any) -> None:
                for user in tuple(users):
                    self._changed(user)

            informer.listen(changed)
        followed.users.add(uid)

    def _release(self, uid: str, key: tuple[str, str]) -> None:
        followed = self._followed.get(key)
        if followed is None:
            return
        followed.users.discard(uid)
        if not followed.users:
            del self._followed[key]
            followed.task.cancel()
