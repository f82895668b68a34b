"""Static pods: the manifests of a directory, run by this node alone, and their mirrors in the API.

What flows through: a change in the directory → the manifests parsed → the pods' workers woken; and, from either side, mirrors brought in
line: one for each static pod, deleted when its pod has ended. What always holds: the API never decides about a static pod, it only shows
it. A file that holds no sound manifest changes nothing: the pod that it last held goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from minikube_py.aio import Backoff, Clock, Health, wait_at_most
from minikube_py.client import Client
from minikube_py.client.transport import TransportError
from minikube_py.kubelet import manifests
from minikube_py.kubelet.inotify import DirectoryWatch
from minikube_py.kubelet.manifests import ManifestError, StaticPod
from minikube_py.meta.errors import AlreadyExists, Conflict, NotFound, StatusError
from minikube_py.types.core import Node
from minikube_py.types.pod import Pod

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 0.1
"""An editor writes a file in several steps."""


class StaticPods:
    """The static pods of a directory. `changed(uid)` is called for every one that comes or goes."""

    def __init__(self, client: Client, directory: Path, node_name: str, clock: Clock, changed: Callable[[str], None]) -> None:
        self._client, self._directory, self._node_name = client, directory, node_name
        self._clock, self._changed = clock, changed
        self._by_uid: dict[str, StaticPod] = {}
        self._files: dict[str, tuple[bytes, StaticPod]] = {}
        self._mirrors: dict[str, Pod] = {}
        self._woken = asyncio.Event()
        self.read = asyncio.Event()
        """The directory was read once."""

    def get(self, uid: str) -> Pod | None:
        """The static pod of that UID, with the status that its mirror tells."""
        static = self._by_uid.get(uid)
        return manifests.shown_by(static.pod, self.mirror(static.pod)) if static is not None else None

    def all(self) -> Iterable[Pod]:
        """All static pods."""
        return [manifests.shown_by(static.pod, self.mirror(static.pod)) for static in self._by_uid.values()]

    def mirror(self, pod: Pod) -> Pod | None:
        """The mirror of a static pod; None while there is none of just this pod."""
        found = self._mirrors.get(pod.key)
        return found if found is not None and found.metadata.annotations.get(manifests.MIRROR) == pod.metadata.uid else None

    def observe(self, old: Pod | None, new: Pod | None) -> str:
        """A mirror came, changed or went; the UID of the pod that it shows."""
        seen = new or old
        assert seen is not None
        if new is not None:
            self._mirrors[new.key] = new
        else:
            self._mirrors.pop(seen.key, None)
        self._woken.set()
        return seen.metadata.annotations[manifests.MIRROR]

    def ended(self) -> None:
        """Some pod has ended."""
        self._woken.set()

    # The directory

    async def watch(self, health: Health) -> None:
        """Follow the directory, until cancelled."""
        while True:
            await asyncio.to_thread(self._directory.mkdir, mode=0o700, parents=True, exist_ok=True)
            watch = DirectoryWatch(self._directory)
            try:
                while await asyncio.to_thread(self._directory.is_dir):
                    self._take(await asyncio.to_thread(self._scan))
                    health.well()
                    await watch.changed.wait()
                    await asyncio.sleep(_SETTLE_SECONDS)
                    watch.changed.clear()
            finally:
                watch.close()

    def _scan(self) -> dict[str, tuple[bytes, StaticPod]]:
        found: dict[str, tuple[bytes, StaticPod]] = {}
        for path in sorted(self._directory.iterdir()):
            if path.name.startswith(".") or not path.is_file():
                continue
            known = self._files.get(path.name)
            try:
                text = path.read_bytes()
                if known is None or known[0] != text:
                    known = text, manifests.parse(text, str(path), self._node_name, self._clock.time())
            except (OSError, ManifestError) as error:
                log.warning("static pod manifest not taken", extra={"path": str(path), "error": str(error)})
            if known is not None:
                found[path.name] = known
        return found

    def _take(self, files: dict[str, tuple[bytes, StaticPod]]) -> None:
        before = set(self._by_uid)
        self._files = files
        self._by_uid = {static.pod.metadata.uid: static for _, static in files.values()}
        self.read.set()
        for uid in before ^ set(self._by_uid):
            self._changed(uid)
        self._woken.set()

    # Mirrors

    async def keep_mirrors(self, health: Health, node: Callable[[], Node | None], workers: Callable[[], Mapping[str, object]]) -> None:
        """Bring the mirrors in line whenever something has changed, until cancelled. `workers` are those of all pods by UID: a mirror stays
        while its pod still ends."""
        await self.read.wait()
        backoff = Backoff(first=0.2, limit=10.0)
        delay: float | None = None
        while True:
            await wait_at_most(self._woken, delay)
            self._woken.clear()
            owner = node()
            if owner is None:
                delay = 0.2
                continue
            try:
                await self._reconcile(owner, workers())
                health.well()
                backoff.reset()
                delay = None
            except (StatusError, TransportError) as error:
                log.warning("mirror pods not brought in line", extra={"error": str(error)})
                delay = backoff.next()

    async def _reconcile(self, owner: Node, workers: Mapping[str, object]) -> None:
        for shown in tuple(self._mirrors.values()):
            uid = shown.metadata.annotations[manifests.MIRROR]
            static = self._by_uid.get(uid)
            stale = static is None or static.pod.key != shown.key or shown.metadata.deletionTimestamp is not None
            if stale and (static is not None or uid not in workers):
                await self._delete(shown)
        for static in tuple(self._by_uid.values()):
            if static.pod.key not in self._mirrors:
                try:
                    await self._client.create(Pod, manifests.mirror(static, owner.metadata.uid), static.pod.metadata.namespace)
                except AlreadyExists:
                    continue  # the informer will tell what is there

    async def _delete(self, shown: Pod) -> None:
        meta = shown.metadata
        with contextlib.suppress(NotFound, Conflict):
            await self._client.delete(Pod, meta.name, meta.namespace, grace_seconds=0, uid=meta.uid)
