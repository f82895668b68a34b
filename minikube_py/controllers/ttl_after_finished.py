"""Jobs that have ended and say how long they want to be kept (spec.ttlSecondsAfterFinished): deleted when the time is over.

remaining(): a job and the time → seconds until it goes. The live job is looked at before it is deleted: its time may have been changed.
"""

from __future__ import annotations

from collections.abc import Sequence

from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller
from minikube_py.meta.errors import NotFound
from minikube_py.types.batch import Job, finished
from minikube_py.types.meta import parse_timestamp, split_key


def remaining(job: Job, now: float) -> float | None:
    """Seconds until the job is to be deleted, 0 and less where it is due; None where it is to stay."""
    end = finished(job)
    if job.spec.ttlSecondsAfterFinished is None or end is None or not end.lastTransitionTime or job.metadata.deletionTimestamp is not None:
        return None
    return parse_timestamp(end.lastTransitionTime) + job.spec.ttlSecondsAfterFinished - now


class TTLAfterFinishedController(Controller):
    """Deletes jobs whose time is over."""

    name = "ttl-after-finished"
    identity = "ttl-after-finished-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._jobs = context.informers.of(Job)

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._jobs, lambda job: (job.key,) if job.spec.ttlSecondsAfterFinished is not None else ()),)

    async def reconcile(self, key: str) -> float | None:
        job = self._jobs.get(key)
        left = remaining(job, self.clock.time()) if job is not None else None
        if job is None or left is None:
            return None
        if left > 0:
            return left
        namespace, name = split_key(key)
        try:
            live = await self.client.get(Job, name, namespace)
            left = remaining(live, self.clock.time())
            if left is None or left > 0:
                return left
            meta = live.metadata
            await self.client.delete(Job, name, namespace, propagation="Foreground", uid=meta.uid, resource_version=meta.resourceVersion)
        except NotFound:
            pass
        return None


__all__ = ["TTLAfterFinishedController", "remaining"]
