"""Approves the certificate signing requests of nodes, where an access review says that who asks may have it without being looked at.

A node's first request comes from a bootstrap token, the later ones from the node itself. A request for a serving certificate waits until
the Node says what its addresses are.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, change
from minikube_py.controllers.certificates import NODE_PREFIX, RECOGNIZERS, SELF_NODE_SERVING, Recognizer, serves_own_names
from minikube_py.meta.errors import NotFound
from minikube_py.pki import requests
from minikube_py.types.certificates import CertificateSigningRequest
from minikube_py.types.core import Node
from minikube_py.types.meta import Object, ResourceRef, View


class _ReviewStatus(View, frozen=True):
    allowed: bool = False


class _SubjectAccessReview(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef(
        "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
    )
    status: _ReviewStatus = _ReviewStatus()


class CSRApprovingController(Controller):
    """Adds the condition Approved."""

    name = "csrapproving"
    identity = "certificate-controller"
    workers = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._requests = context.informers.of(CertificateSigningRequest)
        self._nodes = context.informers.of(Node)

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._requests), Watch(self._nodes, self._waiting_for))

    def _waiting_for(self, node: Node) -> Iterable[str]:
        """The requests that a node has made and that wait."""
        user = NODE_PREFIX + node.metadata.name
        return [csr.key for csr in self._requests.list() if csr.spec.username == user and not csr.status.conditions]

    async def reconcile(self, key: str) -> float | None:
        csr = self._requests.get(key)
        if csr is None or csr.status.certificate or csr.has("Approved") or csr.has("Denied"):
            return None
        try:
            request = requests.parse(base64.b64decode(csr.spec.request))
        except ValueError:
            return None
        for recognizer in RECOGNIZERS:
            if not recognizer.recognizes(csr, request) or not await self._allowed(csr, recognizer.subresource):
                continue
            if recognizer is SELF_NODE_SERVING and not serves_own_names(request, self._nodes.list(), self.options.reserved_names):
                return None
            await self._approve(csr, recognizer)
            return None
        return None

    async def _approve(self, csr: CertificateSigningRequest, recognizer: Recognizer) -> None:
        def edit(live: dict[str, Any]) -> None:
            conditions = live.setdefault("status", {}).setdefault("conditions", [])
            if not any(c.get("type") in ("Approved", "Denied") for c in conditions):
                conditions.append({"type": "Approved", "status": "True", "reason": "AutoApproved", "message": recognizer.message})

        try:
            await change(self.client, csr, edit, "approval")
        except NotFound:
            return

    async def _allowed(self, csr: CertificateSigningRequest, subresource: str) -> bool:
        spec = csr.spec
        review = {
            "user": spec.username,
            "uid": spec.uid,
            "groups": list(spec.groups),
            "extra": {name: list(values) for name, values in spec.extra.items()},
            "resourceAttributes": {
                "group": CertificateSigningRequest.resource.group,
                "resource": CertificateSigningRequest.resource.plural,
                "verb": "create",
                "subresource": subresource,
            },
        }
        ref = _SubjectAccessReview.resource
        body = {"apiVersion": ref.api_version, "kind": ref.kind, "spec": review}
        return (await self.client.create(_SubjectAccessReview, body)).status.allowed
