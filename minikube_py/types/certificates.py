"""Certificate signing requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from minikube_py.types.meta import Condition, Object, ResourceRef, View

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING_SIGNER = "kubernetes.io/kubelet-serving"


class CertificateSigningRequestSpec(View, frozen=True):
    """`request` is the base64 text of PEM."""

    request: str = ""
    signerName: str = ""
    expirationSeconds: int | None = None
    usages: tuple[str, ...] = ()
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = {}


class CertificateSigningRequestStatus(View, frozen=True):
    """`certificate` is the base64 text of PEM."""

    conditions: tuple[Condition, ...] = ()
    certificate: str = ""


class CertificateSigningRequest(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef(
        "certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", namespaced=False
    )
    spec: CertificateSigningRequestSpec = CertificateSigningRequestSpec()
    status: CertificateSigningRequestStatus = CertificateSigningRequestStatus()

    def has(self, condition: str) -> bool:
        """Whether a condition (Approved, Denied, Failed) is there."""
        return any(c.type == condition for c in self.status.conditions)
