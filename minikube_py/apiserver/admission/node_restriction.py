"""NodeRestriction: what a kubelet writes concerns its own node, its own pods and nothing that would win it more rights.

It completes the node authorizer, which sees only the name of what is asked: here the object is known. Upstream:
plugin/pkg/admission/noderestriction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from minikube_py.apiserver.admission.base import Plugin, refusal
from minikube_py.apiserver.api import AdmissionRequest, Attributes, Authorizer, Operation
from minikube_py.apiserver.authz_node import NODE_LEASES, node_name_of
from minikube_py.apiserver.cache import Cache
from minikube_py.apiserver.podreferences import MIRROR_ANNOTATION, is_mirror, pod_references
from minikube_py.meta.errors import Forbidden, not_found
from minikube_py.resources.api import Obj
from minikube_py.types.core import Node
from minikube_py.types.meta import ResourceRef
from minikube_py.types.pod import Pod

KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    }
)
KUBELET_LABEL_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")
RESTRICTED_LABEL_NAMESPACE = "node-restriction.kubernetes.io"
NODE_SIGNERS = ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet")
_CLAIMS = ResourceRef("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
_VOLUMES = ResourceRef("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
_DRIVERS = ResourceRef("storage.k8s.io", "v1", "csidrivers", "CSIDriver", namespaced=False)

Check = Callable[[str, AdmissionRequest], None]


class NodeRestriction(Plugin):
    name = "NodeRestriction"

    def __init__(self, cache: Cache, authorizer: Authorizer) -> None:
        self._cache, self._authorizer = cache, authorizer
        self._checks: Mapping[tuple[str, str], Check] = {
            ("", "pods"): self._pod,
            ("", "nodes"): self._node,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "serviceaccounts"): self._token,
            ("coordination.k8s.io", "leases"): self._lease,
            ("storage.k8s.io", "csinodes"): self._csi_node,
            ("resource.k8s.io", "resourceslices"): self._slice,
            ("certificates.k8s.io", "certificatesigningrequests"): self._signing_request,
        }

    async def admit(self, request: AdmissionRequest) -> None:
        node = node_name_of(request.user)
        if node is None or request.operation is Operation.CONNECT:
            return
        if not node:
            raise refusal(request, f'could not determine node from user "{request.user.name}"')
        ref = request.resource.ref
        check = self._checks.get((ref.group, ref.plural))
        if check is not None:
            check(node, request)

    # Pods

    def _pod(self, node: str, request: AdmissionRequest) -> None:
        if request.subresource == "":
            if request.operation is Operation.CREATE:
                self._mirror_pod(node, request)
            elif request.operation is Operation.DELETE:
                if self._pod_node(request, request.name) != node:
                    raise refusal(request, f'node "{node}" can only delete pods with spec.nodeName set to itself')
            else:
                operation = request.operation.value
                raise refusal(request, f'unexpected operation "{operation}", node "{node}" can only create and delete mirror pods')
        elif request.subresource == "status":
            self._pod_status(node, request)
        elif request.subresource == "eviction":
            name = request.name or ((request.object or {}).get("metadata") or {}).get("name", "")
            if not name:
                raise refusal(request, "could not determine pod from request data")
            if self._pod_node(request, name) != node:
                raise refusal(request, f"node {node} can only evict pods with spec.nodeName set to itself")
        else:
            raise refusal(request, f"unexpected pod subresource \"{request.subresource}\", only 'status' and 'eviction' are allowed")

    def _pod_node(self, request: AdmissionRequest, name: str) -> str:
        entry = self._cache.of(Pod.resource).get(request.namespace, name)
        if entry is None:
            raise not_found("pods", name)
        return entry.node

    def _pod_status(self, node: str, request: AdmissionRequest) -> None:
        if request.operation is not Operation.UPDATE or request.old is None or request.object is None:
            raise refusal(request, f'unexpected operation "{request.operation.value}"')
        old, new = request.old, request.object
        if old.get("spec", {}).get("nodeName") != node:
            raise refusal(request, f'node "{node}" can only update pod status for pods with spec.nodeName set to itself')
        if (old["metadata"].get("labels") or {}) != (new["metadata"].get("labels") or {}):
            raise refusal(request, f'node "{node}" cannot update labels through pod status')
        before, after = old.get("status") or {}, new.get("status") or {}
        if (before.get("resourceClaimStatuses") or []) != (after.get("resourceClaimStatuses") or []):
            raise refusal(request, f'node "{node}" cannot update resource claim statues')
        if before.get("extendedResourceClaimStatus") != after.get("extendedResourceClaimStatus"):
            raise refusal(request, f'node "{node}" cannot update extended resource claim status')

    def _mirror_pod(self, node: str, request: AdmissionRequest) -> None:
        pod = request.object or {}
        if not is_mirror(pod):
            raise refusal(request, f'pod does not have "{MIRROR_ANNOTATION}" annotation, node "{node}" can only create mirror pods')
        if pod.get("spec", {}).get("nodeName") != node:
            raise refusal(request, f'node "{node}" can only create pods with spec.nodeName set to itself')
        owners = pod["metadata"].get("ownerReferences") or []
        if len(owners) > 1:
            raise refusal(request, f'node "{node}" can only create pods with a single owner reference set to itself')
        if not owners or (owners[0].get("apiVersion"), owners[0].get("kind"), owners[0].get("name")) != ("v1", "Node", node):
            raise refusal(request, f'node "{node}" can only create pods with an owner reference set to itself')
        if not owners[0].get("controller"):
            raise refusal(request, f'node "{node}" can only create pods with a controller owner reference set to itself')
        if owners[0].get("blockOwnerDeletion"):
            raise refusal(request, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
        entry = self._cache.of(Node.resource).get("", node)
        if entry is None:
            raise not_found("nodes", node)
        if owners[0].get("uid") != entry.uid:
            raise refusal(request, f"node {node} UID mismatch: expected {owners[0].get('uid')} got {entry.uid}")
        for what in _api_references(pod):
            raise refusal(request, f'node "{node}" can not create pods that reference {what}')

    # Nodes and what belongs to one

    def _node(self, node: str, request: AdmissionRequest) -> None:
        if request.name != node:
            raise refusal(request, f'node "{node}" is not allowed to modify node "{request.name}"')
        new, old = request.object, request.old
        if new is None or request.operation is Operation.DELETE:
            return
        if old is None:
            bad = _forbidden_labels(new, None)
            if bad:
                raise refusal(request, f'node "{node}" is not allowed to set the following labels: {", ".join(bad)}')
            return
        if (new.get("spec", {}).get("taints") or []) != (old.get("spec", {}).get("taints") or []):
            raise refusal(request, f'node "{node}" is not allowed to modify taints')
        if (new["metadata"].get("ownerReferences") or []) != (old["metadata"].get("ownerReferences") or []):
            raise refusal(request, f'node "{node}" is not allowed to modify ownerReferences')
        bad = _forbidden_labels(new, old)
        if bad:
            raise refusal(request, f"is not allowed to modify labels: {', '.join(bad)}")

    def _lease(self, node: str, request: AdmissionRequest) -> None:
        if request.namespace != NODE_LEASES:
            raise refusal(request, f'can only access leases in the "{NODE_LEASES}" system namespace')
        if request.name != node:
            raise refusal(request, "can only access node lease with the same name as the requesting node")

    def _csi_node(self, node: str, request: AdmissionRequest) -> None:
        if request.name != node:
            raise refusal(request, "can only access CSINode with the same name as the requesting node")

    def _slice(self, node: str, request: AdmissionRequest) -> None:
        word = {Operation.CREATE: "create", Operation.DELETE: "delete"}.get(request.operation)
        obj = request.object if request.operation is Operation.CREATE else request.old
        if word and (obj or {}).get("spec", {}).get("nodeName") != node:
            raise refusal(request, f"can only {word} ResourceSlice with the same NodeName as the requesting node")

    def _claim(self, node: str, request: AdmissionRequest) -> None:
        if request.subresource != "status":
            raise refusal(request, "may only update PVC status")
        if request.operation is not Operation.UPDATE or request.old is None or request.object is None:
            raise refusal(request, f'unexpected operation "{request.operation.value}"')
        if _beside_capacity(request.old) != _beside_capacity(request.object):
            raise refusal(request, f'node "{node}" is not allowed to update fields other than status.quantity and status.conditions')

    def _signing_request(self, node: str, request: AdmissionRequest) -> None:
        spec = (request.object or {}).get("spec", {})
        if request.operation is not Operation.CREATE or request.subresource or spec.get("signerName") not in NODE_SIGNERS:
            return
        if _common_name(spec.get("request", ""), request) != f"system:node:{node}":
            raise refusal(request, f"can only create a node CSR with CN=system:node:{node}")

    # Tokens

    def _token(self, node: str, request: AdmissionRequest) -> None:
        if request.operation is not Operation.CREATE or request.subresource != "token" or request.object is None:
            return
        spec = request.object.get("spec") or {}
        bound = spec.get("boundObjectRef") or {}
        if bound.get("apiVersion") != "v1" or bound.get("kind") != "Pod" or not bound.get("name"):
            raise refusal(request, "node requested token not bound to a pod")
        uid = bound.get("uid")
        if not uid:
            raise refusal(request, "node requested token with a pod binding without a uid")
        entry = self._cache.of(Pod.resource).get(request.namespace, bound["name"])
        if entry is None:
            raise not_found("pods", bound["name"])
        if entry.uid != uid:
            why = f"the UID in the bound object reference ({uid}) does not match the UID in record"
            raise refusal(request, f"{why}. The object might have been deleted and then recreated")
        if entry.node != node:
            raise refusal(request, "node requested token bound to a pod scheduled on a different node")
        self._check_audience(request, spec.get("audiences") or [], entry.decode())

    def _check_audience(self, request: AdmissionRequest, audiences: list[str], pod: Obj) -> None:
        if len(audiences) > 1:
            raise refusal(request, "node may only request 0 or 1 audiences")
        audience = audiences[0] if audiences else ""
        if audience in self._audiences_of(pod):
            return
        attributes = Attributes(
            request.user, "request-serviceaccounts-token-audience", "", "v1", audience, namespace=request.namespace, name=request.name
        )
        if not self._authorizer.authorize(attributes).allowed:
            why = f"{request.user.name} is not authorized to request tokens for this audience"
            raise refusal(request, f'audience "{audience}" not found in pod spec volume, {why}')

    def _audiences_of(self, pod: Obj) -> Iterator[str]:
        """The audiences for which the volumes of a pod need tokens."""
        meta = pod["metadata"]
        for volume in pod.get("spec", {}).get("volumes") or ():
            for source in (volume.get("projected") or {}).get("sources") or ():
                if "serviceAccountToken" in source:
                    yield source["serviceAccountToken"].get("audience") or ""
            driver = (volume.get("csi") or {}).get("driver") or ""
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName") or ""
            if "ephemeral" in volume:
                claim = f"{meta['name']}-{volume['name']}"
            if claim:
                driver = self._driver_of(meta.get("namespace", ""), claim)
            if driver:
                found = self._cache.of(_DRIVERS).get("", driver)
                for wanted in (found.decode().get("spec", {}).get("tokenRequests") or ()) if found is not None else ():
                    yield wanted.get("audience") or ""

    def _driver_of(self, namespace: str, claim: str) -> str:
        entry = self._cache.of(_CLAIMS).get(namespace, claim)
        name = entry.decode().get("spec", {}).get("volumeName", "") if entry is not None else ""
        volume = self._cache.of(_VOLUMES).get("", name) if name else None
        driver: str = (volume.decode().get("spec", {}).get("csi") or {}).get("driver", "") if volume is not None else ""
        return driver


def _forbidden_labels(new: Obj, old: Obj | None) -> list[str]:
    """The labels that differ and are not a kubelet's to set."""
    after = new["metadata"].get("labels") or {}
    before = (old["metadata"].get("labels") or {}) if old is not None else {}
    return sorted(key for key in {**before, **after} if after.get(key) != before.get(key) and not may_label(key))


def may_label(key: str) -> bool:
    """Whether a kubelet may set a label on its node: its own kinds of labels, and everything outside of kubernetes.io and k8s.io."""
    namespace = key.partition("/")[0] if "/" in key else ""

    def within(*domains: str) -> bool:
        return any(namespace == domain or namespace.endswith("." + domain) for domain in domains)

    if within(RESTRICTED_LABEL_NAMESPACE):
        return False
    return not within("kubernetes.io", "k8s.io") or key in KUBELET_LABELS or within(*KUBELET_LABEL_NAMESPACES)


def _api_references(pod: Obj) -> Iterator[str]:
    """What a pod refers to in the API, in upstream's words."""
    plurals = [plural for plural, _ in pod_references(pod)]
    spec = pod.get("spec", {})
    yield from (plural for plural in ("serviceaccounts", "secrets", "configmaps") if plural in plurals)
    if spec.get("resourceClaims"):
        yield "resourceclaims"
    for volume in spec.get("volumes") or ():
        if "csi" in volume:
            yield "csidrivers (via CSI volumes)"
        if "glusterfs" in volume:
            yield "endpoints (via glusterFS volumes)"
        if "persistentVolumeClaim" in volume:
            yield "persistentvolumeclaims"
        if "ephemeral" in volume:
            yield "persistentvolumeclaims (via ephemeral volumes)"
        for source in (volume.get("projected") or {}).get("sources") or ():
            if "serviceAccountToken" in source:
                yield "serviceaccounts (via projected volumes)"
            if "clusterTrustBundle" in source:
                yield "clustertrustbundles"
            if "podCertificate" in source:
                yield "podcertificates"


def _beside_capacity(claim: Obj) -> dict[str, Any]:
    """A claim without what a kubelet may change in it."""
    skipped = ("capacity", "conditions", "allocatedResourceStatuses", "allocatedResources")
    status = {name: value for name, value in (claim.get("status") or {}).items() if name not in skipped}
    metadata = {name: value for name, value in claim["metadata"].items() if name not in ("resourceVersion", "managedFields")}
    return {**claim, "metadata": metadata, "status": status}


def _common_name(request_text: str, request: AdmissionRequest) -> str:
    from base64 import b64decode

    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        subject = x509.load_pem_x509_csr(b64decode(request_text)).subject
    except ValueError as error:
        raise _unparsable(request, error) from error
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[-1].value) if names else ""


def _unparsable(request: AdmissionRequest, error: ValueError) -> Forbidden:
    return refusal(request, f"unable to parse csr: {error}")
