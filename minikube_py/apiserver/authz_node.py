"""The node authorizer: a kubelet may touch what belongs to its node and to the pods bound there, and nothing else.

A secret is a node's business when a pod bound to the node uses it (or a volume that such a pod claims); likewise config maps, claims,
volumes, service accounts. The relations are read off the cache: per pod, what it refers to is found once per revision.
Upstream: plugin/pkg/auth/authorizer/node. What the request itself must say (a node's own name in a new lease, say) is for the
NodeRestriction admission plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from minikube_py.apiserver.api import Attributes, Decision
from minikube_py.apiserver.authz_rbac import rule_allows
from minikube_py.apiserver.podreferences import is_mirror, pod_references
from minikube_py.meta.user import NODES_GROUP, User
from minikube_py.types.meta import ResourceRef
from minikube_py.types.pod import Pod
from minikube_py.types.rbac import PolicyRule

if TYPE_CHECKING:
    from minikube_py.apiserver.cache import Cache, Entry

NODE_LEASES = "kube-node-lease"
_PREFIX = "system:node:"
_VOLUMES = ResourceRef("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
_ATTACHMENTS = ResourceRef("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", namespaced=False)
_SLICES = ResourceRef("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", namespaced=False)

NO_OPINION = Decision(False)
ALLOWED = Decision(True)
_OWN_OBJECT_VERBS = ("get", "create", "update", "patch", "delete")


def node_name_of(user: User) -> str | None:
    """The node that a kubelet speaks for; None for everybody else."""
    if NODES_GROUP in user.groups and user.name.startswith(_PREFIX):
        return user.name[len(_PREFIX) :]
    return None


class NodeAuthorizer:
    """Decides for kubelets; has no opinion on others. `rules` are those of the system:node role, for what has no owner."""

    def __init__(self, cache: Cache, rules: Iterable[PolicyRule]) -> None:
        self._cache, self._rules = cache, tuple(rules)
        self._references: dict[str, tuple[int, frozenset[tuple[str, str]]]] = {}
        self._special: Mapping[tuple[str, str], Callable[[str, Attributes], Decision]] = {
            ("", "secrets"): self._read,
            ("", "configmaps"): self._read,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): self._get,
            ("", "serviceaccounts"): self._service_account,
            ("", "nodes"): self._node,
            ("", "pods"): self._pod,
            ("resource.k8s.io", "resourceclaims"): self._get,
            ("resource.k8s.io", "resourceslices"): self._slice,
            ("storage.k8s.io", "volumeattachments"): self._get,
            ("storage.k8s.io", "csinodes"): self._csi_node,
            ("coordination.k8s.io", "leases"): self._lease,
        }

    def authorize(self, attributes: Attributes) -> Decision:
        """The decision for a kubelet."""
        node = node_name_of(attributes.user)
        if node is None:
            return NO_OPINION
        if not node:
            return Decision(False, f'unknown node for user "{attributes.user.name}"')
        if not attributes.path:
            special = self._special.get((attributes.group, attributes.resource))
            if special is not None:
                return special(node, attributes)
        return ALLOWED if any(rule_allows(rule, attributes) for rule in self._rules) else NO_OPINION

    # By kind

    def _read(self, node: str, a: Attributes) -> Decision:
        if a.verb not in ("get", "list", "watch"):
            return Decision(False, "can only read resources of this type")
        if a.subresource:
            return Decision(False, "cannot read subresource")
        if not a.namespace:
            return Decision(False, "can only read namespaced object of this type")
        return self._related(node, a)

    def _get(self, node: str, a: Attributes) -> Decision:
        if a.verb != "get":
            return Decision(False, "can only get individual resources of this type")
        if a.subresource:
            return Decision(False, "cannot get subresource")
        return self._related(node, a)

    def _claim(self, node: str, a: Attributes) -> Decision:
        if a.subresource != "status":
            return self._get(node, a)
        if a.verb not in ("update", "patch"):
            return Decision(False, "can only get/update/patch this type")
        return self._related(node, a)

    def _service_account(self, node: str, a: Attributes) -> Decision:
        if a.verb == "get" and not a.subresource:
            return self._read(node, a)
        if a.verb != "create" or not a.name:
            return Decision(False, "can only create tokens for individual service accounts")
        if a.subresource != "token":
            return Decision(False, "can only create token subresource of serviceaccount")
        return self._related(node, a)

    def _lease(self, node: str, a: Attributes) -> Decision:
        if a.verb not in _OWN_OBJECT_VERBS:
            return Decision(False, "can only get, create, update, patch, or delete a node lease")
        if a.namespace != NODE_LEASES:
            return Decision(False, f'can only access leases in the "{NODE_LEASES}" system namespace')
        if a.verb != "create" and a.name != node:
            return Decision(False, "can only access node lease with the same name as the requesting node")
        return ALLOWED

    def _csi_node(self, node: str, a: Attributes) -> Decision:
        if a.verb not in _OWN_OBJECT_VERBS:
            return Decision(False, "can only get, create, update, patch, or delete a CSINode")
        if a.subresource:
            return Decision(False, "cannot authorize CSINode subresources")
        if a.verb != "create" and a.name != node:
            return Decision(False, "can only access CSINode with the same name as the requesting node")
        return ALLOWED

    def _slice(self, node: str, a: Attributes) -> Decision:
        if a.subresource:
            return Decision(False, "cannot authorize ResourceSlice subresources")
        if a.verb == "create":
            return ALLOWED
        if a.verb in ("get", "update", "patch", "delete"):
            return self._related(node, a)
        if a.verb in ("watch", "list", "deletecollection"):
            if _selects(a, "spec.nodeName", node):
                return ALLOWED
            return Decision(False, "can only list/watch/deletecollection resourceslices with nodeName field selector")
        verbs = "get, watch, list, create, update, patch, delete, deletecollection"
        return Decision(False, f"only the following verbs are allowed for a ResourceSlice: {verbs}")

    def _node(self, node: str, a: Attributes) -> Decision:
        if a.subresource == "":
            if a.verb in ("create", "update", "patch"):
                return ALLOWED
            if a.verb in ("get", "list", "watch"):
                if a.name == node:
                    return ALLOWED
                if not a.name:
                    return Decision(False, f"node '{node}' cannot read all nodes, only its own Node object")
                return Decision(False, f"node '{node}' cannot read '{a.name}', only its own Node object")
        elif a.subresource == "status" and a.verb in ("update", "patch"):
            return ALLOWED
        return NO_OPINION

    def _pod(self, node: str, a: Attributes) -> Decision:
        if a.subresource == "":
            if a.verb == "get":
                return self._get(node, a)
            if a.verb in ("list", "watch"):
                if _selects(a, "spec.nodeName", node):
                    return ALLOWED
                if a.name:
                    return self._related(node, a)
                return Decision(False, "can only list/watch pods with spec.nodeName field selector")
            if a.verb in ("create", "delete"):
                return ALLOWED
        elif (a.subresource == "status" and a.verb in ("update", "patch")) or (a.subresource == "eviction" and a.verb == "create"):
            return ALLOWED
        return NO_OPINION

    # Relations

    def _related(self, node: str, a: Attributes) -> Decision:
        if not a.name:
            return Decision(False, "No Object name found")
        if self._has_path(node, a.resource, a.namespace, a.name):
            return ALLOWED
        return Decision(False, f"no relationship found between node '{node}' and this object")

    def _has_path(self, node: str, resource: str, namespace: str, name: str) -> bool:
        if resource == "pods":
            entry = self._cache.of(Pod.resource).get(namespace, name)
            return entry is not None and entry.node == node
        if resource == "persistentvolumes":
            volume = self._cache.of(_VOLUMES).get("", name)
            return volume is not None and self._claimed(node, volume.decode())
        if resource in ("volumeattachments", "resourceslices"):
            owned = self._cache.of(_ATTACHMENTS if resource == "volumeattachments" else _SLICES).get("", name)
            return owned is not None and owned.decode().get("spec", {}).get("nodeName") == node
        if self._used_by_pod(node, namespace, resource, name):
            return True
        if resource != "secrets":
            return False
        volumes = (entry.decode() for entry in self._cache.of(_VOLUMES).entries())
        return any((namespace, name) in set(_volume_secrets(volume)) and self._claimed(node, volume) for volume in volumes)

    def _claimed(self, node: str, volume: dict[str, Any]) -> bool:
        claim = volume.get("spec", {}).get("claimRef") or {}
        return self._used_by_pod(node, claim.get("namespace", ""), "persistentvolumeclaims", claim.get("name", ""))

    def _used_by_pod(self, node: str, namespace: str, resource: str, name: str) -> bool:
        wanted = (resource, name)
        if not namespace or not name:
            return False
        pods = self._cache.of(Pod.resource).entries(namespace, node=node)
        return any(wanted in self._references_of(entry) for entry in pods)

    def _references_of(self, entry: Entry) -> frozenset[tuple[str, str]]:
        found = self._references.get(entry.key)
        if found is None or found[0] != entry.revision:
            if len(self._references) > 1000 + 2 * len(self._cache.of(Pod.resource)):
                self._references.clear()
            found = self._references[entry.key] = (entry.revision, _references(entry.decode()))
        return found[1]


def _references(pod: dict[str, Any]) -> frozenset[tuple[str, str]]:
    # a node makes mirror pods itself: they must give it access to nothing
    return frozenset() if is_mirror(pod) else frozenset(pod_references(pod))


def _selects(attributes: Attributes, field: str, value: str) -> bool:
    return (field, "=", value) in attributes.field_selector


def _volume_secrets(volume: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(namespace, name) of the secrets that a kubelet needs to mount a persistent volume; those of a provisioner alone are not its own."""
    spec = volume.get("spec", {})
    home = (spec.get("claimRef") or {}).get("namespace", "")
    if azure := spec.get("azureFile"):
        yield azure.get("secretNamespace") or home, azure.get("secretName", "")
    references = [
        (spec.get(kind) or {}).get("secretRef") for kind in ("cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos")
    ]
    csi = spec.get("csi") or {}
    references += [csi.get(key) for key in ("nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef")]
    for reference in references:
        if reference:
            yield reference.get("namespace") or home, reference.get("name", "")
