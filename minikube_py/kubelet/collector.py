"""Removes what nobody uses: images by `imagegc`'s rules every five minutes, and, when the node is short of disk, everything that is dead.

The sandbox's image, images of the archives that a node was given, and what the node's pods name are never removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

import msgspec

from minikube_py.aio import Backoff, Health
from minikube_py.cri import errors
from minikube_py.cri.images import pinned_images
from minikube_py.cri.references import normalize
from minikube_py.kubelet import imagegc, state
from minikube_py.kubelet.imagegc import Image, Limits, Record
from minikube_py.kubelet.measure import Measure
from minikube_py.kubelet.pods import Pods
from minikube_py.kubelet.tools import Tools
from minikube_py.types.core import Node

log = logging.getLogger(__name__)


class Collector:
    """One node's garbage."""

    def __init__(self, tools: Tools, pods: Pods, measure: Measure, node: Callable[[], Node | None]) -> None:
        settings = tools.options.settings
        self._tools, self._pods, self._measure, self._node = tools, pods, measure, node
        self._limits = Limits(
            settings.image_gc_high_threshold, settings.image_gc_low_threshold, settings.minimum_image_ttl, settings.image_maximum_gc_age
        )
        self._records: dict[str, Record] = {}
        self._began = tools.clock.monotonic()
        self._sandbox_image: str | None = None
        self._turn = asyncio.Lock()

    async def run(self, health: Health) -> None:
        """Look at the images now, and free what is to be freed every time, until cancelled. After a failure the next time is soon: the node
        is not well until then."""
        first = True
        backoff = Backoff(first=1.0, limit=self._tools.options.image_gc_seconds)
        while True:
            delay = self._tools.options.image_gc_seconds
            try:
                async with self._turn:
                    await (self._look() if first else self._collect())
                first = False
                backoff.reset()
                health.well()
            except (errors.CriError, OSError) as error:
                health.degraded(str(error))
                log.warning("images were not collected", extra={"error": str(error)})
                delay = backoff.next()  # a runtime that was away for a moment is not waited for until the next turn
            await asyncio.sleep(delay)

    async def reclaim(self) -> None:
        """Remove the containers of pods that have ended, then every image that may go. Raises CriError."""
        async with self._turn:
            await self._remove_dead()
            images, used = await self._look()
            await self._remove(
                imagegc.choose(imagegc.candidates(images, self._records, used), self._records, None, self._limits, self._now())
            )

    def _now(self) -> float:
        return self._tools.clock.monotonic()

    async def _collect(self) -> None:
        images, used = await self._look()
        now = self._now()
        free = imagegc.candidates(images, self._records, used)
        removed = await self._remove(imagegc.outdated(free, self._records, self._limits, self._began, now))
        free = [image for image in free if image not in removed]
        disk = await self._measure.image_disk()
        if disk is None or not (amount := imagegc.amount_to_free(disk.available, disk.capacity, self._limits)):
            return
        freed = sum(image.size for image in await self._remove(imagegc.choose(free, self._records, amount, self._limits, now)))
        if freed < amount and (node := self._node()) is not None:
            message = imagegc.shortfall_message(disk.available, disk.capacity, freed)
            self._tools.events.record(node, "Warning", "FreeDiskSpaceFailed", message)

    async def _look(self) -> tuple[Sequence[Image], set[str]]:
        """The images, and the ids of those in use; what is known of them is brought up to date."""
        cri = self._tools.cri
        listed, containers, pinned = await asyncio.gather(cri.list_images(), cri.list_containers(), pinned_images(cri))
        pinned |= {await self._pause()}
        images = [Image(i.id, i.size, names := (*i.repo_tags, *i.repo_digests), i.pinned or not pinned.isdisjoint(names)) for i in listed]
        named = {name for container in containers for name in (container.image_id, container.image_ref, container.image.image)}
        for pod in self._pods.all():
            if pod.status.phase in ("Succeeded", "Failed"):
                continue
            spec = pod.spec
            named.update(normalize(c.image) for c in (*spec.initContainers, *spec.containers, *spec.ephemeralContainers) if c.image)
            named.update(normalize(v.image.reference) for v in spec.volumes if v.image is not None and v.image.reference)
        used = {image.id for image in images if image.id in named or not named.isdisjoint(image.names)}
        self._records = imagegc.track(self._records, images, used, self._now())
        return images, used

    async def _pause(self) -> str:
        """The image that the runtime makes sandboxes of, which it may not know to be in use."""
        if self._sandbox_image is None:
            self._sandbox_image = ""
            with contextlib.suppress(msgspec.DecodeError):
                info = (await self._tools.cri.status(verbose=True)).info
                self._sandbox_image = normalize(str(msgspec.json.decode(info.get("config", "{}")).get("sandboxImage", "")))
        return self._sandbox_image

    async def _remove(self, images: Sequence[Image]) -> list[Image]:
        """Remove images; those that are gone."""
        gone = []
        for image in images:
            try:
                await self._tools.cri.remove_image(image.id)
            except errors.CriError as error:
                log.warning("an image could not be removed", extra={"image": image.names, "error": str(error)})
                continue
            log.info("removed an unused image", extra={"image": image.names, "bytes": image.size})
            self._records.pop(image.id, None)
            self._tools.images.forget(image.id)
            gone.append(image)
        return gone

    async def _remove_dead(self) -> None:
        """The containers and sandboxes of pods that have ended; their statuses are in the API."""
        ended = {uid for uid, worker in self._pods.workers.items() if worker.ending and worker.reclaimed}
        cri = self._tools.cri
        for sandbox in await cri.list_pod_sandboxes():
            if sandbox.labels.get(state.POD_UID) in ended:
                await cri.remove_pod_sandbox(sandbox.id)
