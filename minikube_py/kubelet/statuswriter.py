"""Writes one pod's status to the API: to the pod itself, or to the mirror that shows a static one. Nothing is written twice."""

from __future__ import annotations

import logging

from minikube_py.client import Patch
from minikube_py.kubelet import status as statuses
from minikube_py.kubelet.admission import is_static
from minikube_py.kubelet.tools import Tools
from minikube_py.meta.errors import Conflict, NotFound
from minikube_py.types.pod import Pod

log = logging.getLogger(__name__)


class StatusWriter:
    """What was last written of one pod, and where."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._written: statuses.Status | None = None
        self._uid = ""

    async def write(self, pod: Pod, status: statuses.Status) -> Pod | None:
        """Patch the API's status where it is another one; the pod as the API has it then, None for nothing written or a mirror."""
        shown = self._tools.mirror_of(pod) if is_static(pod) else pod
        if shown is None or shown.metadata.uid != self._uid:
            self._written, self._uid = None, shown.metadata.uid if shown is not None else ""
        if shown is None or (status == self._written and statuses.shows(shown, status)):
            return None
        body = statuses.patch(shown, status, self._written)
        meta = shown.metadata
        try:
            patched = await self._tools.client.patch(Pod, meta.name, body, meta.namespace, kind=Patch.STRATEGIC, subresource="status")
        except (NotFound, Conflict) as error:
            log.debug("pod is gone, status not written", extra={"pod": shown.key, "error": str(error)})
            return None
        self._written = status
        return patched if shown is pod and patched.metadata.uid == meta.uid else None
