"""The built-in kinds: one row each, in the order in which kube-apiserver v1.36 shows them.

Why: how a kind is served (names, scope, verbs, subresources) is data, not code. A plain kind is its row and nothing else; one with rules of
its own has a strategy in strategies.py, one with columns of its own has them in columns/. What is off by default upstream (alpha and beta
versions) has no row. CustomResourceDefinition and APIService have none either, until what they promise (serving the kinds that they define)
is there.

What always holds: every row with `stored` has exactly one hub version; other served versions of the same objects are converters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from minikube_py.resources import columns, names, strategies
from minikube_py.resources.api import STANDARD_VERBS, Converter, Resource, Strategy, Subresource
from minikube_py.resources.events import EVENTS_V1
from minikube_py.resources.horizontalpodautoscalers import AUTOSCALING_V1
from minikube_py.types.meta import ResourceRef

_READ_WRITE = ("get", "patch", "update")
_PROXY = ("create", "delete", "get", "patch", "update")
_STREAM = ("create", "get")
_ALL = ("all",)
_API_EXTENSIONS = ("api-extensions",)
_CREATE = ("create",)


class Row(NamedTuple):
    """One served kind. `sub` names subresources of the usual shapes (status, scale); `more` has the others."""

    kind: str
    plural: str
    short: tuple[str, ...] = ()
    namespaced: bool = True
    categories: tuple[str, ...] = ()
    sub: tuple[str, ...] = ()
    more: Mapping[str, Subresource] = {}
    verbs: tuple[str, ...] = STANDARD_VERBS
    stored: bool = True
    name_rule: Callable[[str], str | None] | None = None
    relaxed: Callable[[str], bool] | None = None
    deprecation: str = ""


_CLUSTER = False
_STATUS = ("status",)
_SCALABLE = ("scale", "status")

_TABLE: tuple[tuple[str, tuple[Row, ...]], ...] = (
    (
        "v1",
        (
            Row("Binding", "bindings", verbs=_CREATE, stored=False),
            Row("ComponentStatus", "componentstatuses", ("cs",), _CLUSTER, verbs=("get", "list"), stored=False,
                deprecation="v1 ComponentStatus is deprecated in v1.19+"),
            Row("ConfigMap", "configmaps", ("cm",)),
            Row("Endpoints", "endpoints", ("ep",),
                deprecation="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
            Row("Event", "events", ("ev",), relaxed=lambda namespace: True),
            Row("LimitRange", "limitranges", ("limits",)),
            Row(
                "Namespace", "namespaces", ("ns",), _CLUSTER,
                sub=_STATUS, more={"finalize": Subresource("Namespace", ("update",))},
                verbs=tuple(v for v in STANDARD_VERBS if v != "deletecollection"), name_rule=names.dns_label,
            ),
            Row("Node", "nodes", ("no",), _CLUSTER, sub=_STATUS, more={"proxy": Subresource("NodeProxyOptions", _PROXY)}),
            Row("PersistentVolumeClaim", "persistentvolumeclaims", ("pvc",), sub=_STATUS),
            Row("PersistentVolume", "persistentvolumes", ("pv",), _CLUSTER, sub=_STATUS),
            Row(
                "Pod", "pods", ("po",), categories=_ALL, sub=_STATUS,
                more={
                    "attach": Subresource("PodAttachOptions", _STREAM),
                    "binding": Subresource("Binding", _CREATE),
                    "ephemeralcontainers": Subresource("Pod", _READ_WRITE),
                    "eviction": Subresource("Eviction", _CREATE, "policy", "v1"),
                    "exec": Subresource("PodExecOptions", _STREAM),
                    "log": Subresource("Pod", ("get",)),
                    "portforward": Subresource("PodPortForwardOptions", _STREAM),
                    "proxy": Subresource("PodProxyOptions", _PROXY),
                    "resize": Subresource("Pod", _READ_WRITE),
                },
            ),
            Row("PodTemplate", "podtemplates"),
            Row("ReplicationController", "replicationcontrollers", ("rc",), categories=_ALL, sub=_SCALABLE),
            Row("ResourceQuota", "resourcequotas", ("quota",), sub=_STATUS),
            Row("Secret", "secrets"),
            Row(
                "ServiceAccount", "serviceaccounts", ("sa",),
                more={"token": Subresource("TokenRequest", _CREATE, "authentication.k8s.io", "v1")},
            ),
            Row(
                "Service", "services", ("svc",), categories=_ALL, sub=_STATUS,
                more={"proxy": Subresource("ServiceProxyOptions", _PROXY)}, name_rule=names.dns_label,
            ),
        ),
    ),
    (
        "admissionregistration.k8s.io/v1",
        (
            Row("MutatingAdmissionPolicy", "mutatingadmissionpolicies", (), _CLUSTER, _API_EXTENSIONS),
            Row("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", (), _CLUSTER, _API_EXTENSIONS),
            Row("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", (), _CLUSTER, _API_EXTENSIONS),
            Row("ValidatingAdmissionPolicy", "validatingadmissionpolicies", (), _CLUSTER, _API_EXTENSIONS, _STATUS),
            Row("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", (), _CLUSTER, _API_EXTENSIONS),
            Row("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", (), _CLUSTER, _API_EXTENSIONS),
        ),
    ),
    (
        "apps/v1",
        (
            Row("ControllerRevision", "controllerrevisions"),
            Row("DaemonSet", "daemonsets", ("ds",), categories=_ALL, sub=_STATUS),
            Row("Deployment", "deployments", ("deploy",), categories=_ALL, sub=_SCALABLE),
            Row("ReplicaSet", "replicasets", ("rs",), categories=_ALL, sub=_SCALABLE),
            Row("StatefulSet", "statefulsets", ("sts",), categories=_ALL, sub=_SCALABLE),
        ),
    ),
    (
        "authentication.k8s.io/v1",
        (
            Row("SelfSubjectReview", "selfsubjectreviews", (), _CLUSTER, verbs=_CREATE, stored=False),
            Row("TokenReview", "tokenreviews", (), _CLUSTER, verbs=_CREATE, stored=False),
        ),
    ),
    (
        "authorization.k8s.io/v1",
        (
            Row("LocalSubjectAccessReview", "localsubjectaccessreviews", verbs=_CREATE, stored=False),
            Row("SelfSubjectAccessReview", "selfsubjectaccessreviews", (), _CLUSTER, verbs=_CREATE, stored=False),
            Row("SelfSubjectRulesReview", "selfsubjectrulesreviews", (), _CLUSTER, verbs=_CREATE, stored=False),
            Row("SubjectAccessReview", "subjectaccessreviews", (), _CLUSTER, verbs=_CREATE, stored=False),
        ),
    ),
    ("autoscaling/v2", (Row("HorizontalPodAutoscaler", "horizontalpodautoscalers", ("hpa",), categories=_ALL, sub=_STATUS),)),
    (
        "batch/v1",
        (
            Row("CronJob", "cronjobs", ("cj",), categories=_ALL, sub=_STATUS),
            Row("Job", "jobs", categories=_ALL, sub=_STATUS),
        ),
    ),
    (
        "certificates.k8s.io/v1",
        (
            Row(
                "CertificateSigningRequest", "certificatesigningrequests", ("csr",), _CLUSTER,
                sub=_STATUS, more={"approval": Subresource("CertificateSigningRequest", _READ_WRITE)},
            ),
        ),
    ),
    ("coordination.k8s.io/v1", (Row("Lease", "leases", relaxed=lambda namespace: namespace == "kube-node-lease"),)),
    ("discovery.k8s.io/v1", (Row("EndpointSlice", "endpointslices"),)),
    (
        "flowcontrol.apiserver.k8s.io/v1",
        (
            Row("FlowSchema", "flowschemas", (), _CLUSTER, sub=_STATUS),
            Row("PriorityLevelConfiguration", "prioritylevelconfigurations", (), _CLUSTER, sub=_STATUS),
        ),
    ),
    (
        "networking.k8s.io/v1",
        (
            Row("IngressClass", "ingressclasses", (), _CLUSTER),
            Row("Ingress", "ingresses", ("ing",), sub=_STATUS),
            Row("IPAddress", "ipaddresses", ("ip",), _CLUSTER, name_rule=names.canonical_ip),
            Row("NetworkPolicy", "networkpolicies", ("netpol",)),
            Row("ServiceCIDR", "servicecidrs", (), _CLUSTER, sub=_STATUS),
        ),
    ),
    ("node.k8s.io/v1", (Row("RuntimeClass", "runtimeclasses", (), _CLUSTER),)),
    ("policy/v1", (Row("PodDisruptionBudget", "poddisruptionbudgets", ("pdb",), sub=_STATUS),)),
    (
        "rbac.authorization.k8s.io/v1",
        (
            Row("ClusterRoleBinding", "clusterrolebindings", (), _CLUSTER, name_rule=names.path_segment),
            Row("ClusterRole", "clusterroles", (), _CLUSTER, name_rule=names.path_segment),
            Row("RoleBinding", "rolebindings", name_rule=names.path_segment),
            Row("Role", "roles", name_rule=names.path_segment),
        ),
    ),
    (
        "resource.k8s.io/v1",
        (
            Row("DeviceClass", "deviceclasses", (), _CLUSTER),
            Row("ResourceClaim", "resourceclaims", sub=_STATUS),
            Row("ResourceClaimTemplate", "resourceclaimtemplates"),
            Row("ResourceSlice", "resourceslices", (), _CLUSTER),
        ),
    ),
    ("scheduling.k8s.io/v1", (Row("PriorityClass", "priorityclasses", ("pc",), _CLUSTER),)),
    (
        "storage.k8s.io/v1",
        (
            Row("CSIDriver", "csidrivers", (), _CLUSTER),
            Row("CSINode", "csinodes", (), _CLUSTER),
            Row("CSIStorageCapacity", "csistoragecapacities"),
            Row("StorageClass", "storageclasses", ("sc",), _CLUSTER),
            Row("VolumeAttachment", "volumeattachments", (), _CLUSTER, sub=_STATUS),
            Row("VolumeAttributesClass", "volumeattributesclasses", ("vac",), _CLUSTER),
        ),
    ),
)  # fmt: skip

_CONVERTED: Mapping[tuple[str, str], Mapping[ResourceRef, Converter]] = {
    ("v1", "Event"): {ResourceRef("events.k8s.io", "v1", "events", "Event"): EVENTS_V1},
    ("autoscaling/v2", "HorizontalPodAutoscaler"): {
        ResourceRef("autoscaling", "v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler"): AUTOSCALING_V1
    },
}


@lru_cache(maxsize=1)
def built_in() -> tuple[Resource, ...]:
    """Every built-in kind that is served, grouped by group version; the same values at every call."""
    return tuple(_resources())


def _resources() -> Iterator[Resource]:
    for group_version, rows in _TABLE:
        group, _, version = group_version.rpartition("/")
        for row in rows:
            strategy = strategies.BY_KIND.get((group, row.kind)) or _plain(row)
            yield Resource(
                ref=ResourceRef(group, version, row.plural, row.kind, row.namespaced),
                strategy=strategy,
                singular=row.kind.lower(),
                columns=columns.BY_KIND.get((group, row.kind), columns.GENERIC),
                short_names=row.short,
                categories=row.categories,
                verbs=row.verbs,
                subresources=_subresources(row),
                converters=_CONVERTED.get((group_version, row.kind), {}),
                name_rule=row.name_rule,
                stored=row.stored,
                deprecation=row.deprecation,
                **({"relaxed": row.relaxed} if row.relaxed else {}),
            )


def _plain(row: Row) -> Strategy:
    return strategies.PLAIN_WITH_STATUS if "status" in row.sub else strategies.PLAIN


def _subresources(row: Row) -> Mapping[str, Subresource]:
    usual = {"status": Subresource(row.kind, _READ_WRITE), "scale": Subresource("Scale", _READ_WRITE, "autoscaling", "v1")}
    found = {name: usual[name] for name in row.sub} | dict(row.more)
    return {name: found[name] for name in sorted(found)}
