"""What every cluster has from its first moment: namespaces, roles and bindings, priority classes, the service range, who may be trusted.

Runs at every start, before the server says that it is ready. What is there and right is only compared, in memory; what is missing is
created, what lost something of ours gets it back, what others added stays (upstream: pkg/registry/rbac/reconciliation and
pkg/controlplane). An object whose annotation rbac.authorization.kubernetes.io/autoupdate says "false" is the user's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from minikube_py.apiserver import bootstrap_roles
from minikube_py.apiserver.authn import FRONT_PROXY_NAMES
from minikube_py.client import Client
from minikube_py.meta import clustersettings
from minikube_py.meta.errors import AlreadyExists
from minikube_py.types.core import ConfigMap, Namespace, PriorityClass
from minikube_py.types.meta import Object, ResourceRef, timestamp
from minikube_py.types.network import ServiceCIDR
from minikube_py.types.rbac import ClusterRole, ClusterRoleBinding, Role, RoleBinding

if TYPE_CHECKING:
    from minikube_py.apiserver.cache import Cache

log = logging.getLogger(__name__)

Obj = dict[str, Any]

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
PRIORITY_CLASSES = (
    ("system-node-critical", 2000001000, "Used for system critical pods that must not be moved from their current node."),
    (
        "system-cluster-critical",
        2000000000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
)
AUTHENTICATION_CONFIG_MAP = "extension-apiserver-authentication"
DEFAULT_SERVICE_CIDR = "kubernetes"
_PARALLEL = 24


class Settings(msgspec.Struct, frozen=True):
    """What the bootstrap must know of the cluster: certificates as PEM, service ranges as CIDRs."""

    service_cidrs: tuple[str, ...]
    client_ca_pem: str = ""
    front_proxy_ca_pem: str = ""
    front_proxy_names: Sequence[str] = FRONT_PROXY_NAMES
    cluster: Mapping[str, str] = msgspec.field(default_factory=dict)
    """What nodes must know, for the config map that they read."""


async def reconcile(client: Client, cache: Cache, settings: Settings, now: float) -> int:
    """Bring everything to where it should be; `client` acts as a member of system:masters, `now` is in seconds since the epoch. Returns how
    many objects were written. Raises the client's errors."""
    work = _Work(client, cache)
    for name in NAMESPACES:
        work.ensure(Namespace.resource, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    written = await work.done()
    for name, value, description in PRIORITY_CLASSES:
        work.ensure(PriorityClass.resource, "", _priority_class(name, value, description))
    policy = bootstrap_roles.objects()
    for role in policy.cluster_roles:
        work.role(ClusterRole, "", role)
    for role in policy.roles:
        work.role(Role, role["metadata"]["namespace"], role)
    for binding in policy.cluster_role_bindings:
        work.binding(ClusterRoleBinding, "", binding)
    for binding in policy.role_bindings:
        work.binding(RoleBinding, binding["metadata"]["namespace"], binding)
    work.config_map("kube-system", AUTHENTICATION_CONFIG_MAP, _authentication(settings))
    if settings.cluster:
        work.config_map(clustersettings.NAMESPACE, clustersettings.NAME, settings.cluster)
    work.service_cidr(settings.service_cidrs, now)
    written += await work.done()
    # its status can only be written once it is there
    work.service_cidr(settings.service_cidrs, now)
    return written + await work.done()


class _Work:
    """Collects the writes that are needed and carries them out together."""

    def __init__(self, client: Client, cache: Cache) -> None:
        self._client, self._cache = client, cache
        self._writes: list[tuple[str, str, Obj]] = []
        self._replacements: list[tuple[str, Obj]] = []

    async def done(self) -> int:
        import orjson

        async def write(method: str, path: str, obj: Obj) -> None:
            try:
                await self._client.request(method, path, body=orjson.dumps(obj))
            except AlreadyExists:
                log.debug("somebody else created a bootstrap object first", extra={"path": path})

        async def replace(path: str, obj: Obj) -> None:
            await self._client.request("DELETE", f"{path}/{obj['metadata']['name']}")
            await write("POST", path, obj)

        writes = [partial(write, *wanted) for wanted in self._writes] + [partial(replace, *wanted) for wanted in self._replacements]
        self._writes, self._replacements = [], []
        count, waiting = len(writes), iter(writes)

        async def work() -> None:
            for one in waiting:
                await one()

        # enough at once to share commits, few enough to leave the loop to others in between
        async with asyncio.TaskGroup() as group:
            for number in range(min(_PARALLEL, count)):
                group.create_task(work(), name=f"bootstrap {number}")
        return count

    def ensure(self, ref: ResourceRef, namespace: str, obj: Obj) -> bool:
        """Create an object where it does not exist; whether it does."""
        if self._cache.of(ref).get(namespace, obj["metadata"]["name"]) is not None:
            return True
        self._writes.append(("POST", ref.path(namespace), obj))
        return False

    def role(self, kind: type[ClusterRole] | type[Role], namespace: str, wanted: Obj) -> None:
        """Give a role back what it has lost; further rules, labels and annotations stay."""
        entry = self._cache.of(kind.resource).get(namespace, wanted["metadata"]["name"])
        if entry is None:
            self._writes.append(("POST", kind.resource.path(namespace), wanted))
            return
        current = entry.view(kind)
        changes = _metadata_changes(current, wanted)
        if changes is None:
            return
        if isinstance(current, ClusterRole) and "aggregationRule" in wanted:
            held = current.aggregationRule.clusterRoleSelectors if current.aggregationRule else ()
            selectors = [{"matchLabels": dict(s.matchLabels)} for s in held]
            missing: list[Any] = [s for s in wanted["aggregationRule"]["clusterRoleSelectors"] if s not in selectors]
            if missing:
                changes["aggregationRule"] = {"clusterRoleSelectors": missing}
        else:
            rules = set(current.rules or ())
            missing = [
                rule for rule, frozen in zip(wanted["rules"], bootstrap_roles.frozen(wanted["rules"]), strict=True) if frozen not in rules
            ]
            if missing:
                changes["rules"] = [*(entry.decode().get("rules") or ()), *missing]
        self._update(kind, namespace, entry.decode(), changes)

    def binding(self, kind: type[ClusterRoleBinding] | type[RoleBinding], namespace: str, wanted: Obj) -> None:
        """Give a binding back the subjects that it has lost; one that binds another role is made anew, since that cannot be changed."""
        entry = self._cache.of(kind.resource).get(namespace, wanted["metadata"]["name"])
        if entry is None:
            self._writes.append(("POST", kind.resource.path(namespace), wanted))
            return
        current = entry.view(kind)
        changes = _metadata_changes(current, wanted)
        if changes is None:
            return
        if (current.roleRef.kind, current.roleRef.name) != (wanted["roleRef"]["kind"], wanted["roleRef"]["name"]):
            self._replacements.append((kind.resource.path(namespace), wanted))
            return
        held = {(s.kind, s.namespace, s.name) for s in current.subjects}
        missing = [s for s in wanted.get("subjects", ()) if (s["kind"], s.get("namespace", ""), s["name"]) not in held]
        if missing:
            changes["subjects"] = [*(entry.decode().get("subjects") or ()), *missing]
        self._update(kind, namespace, entry.decode(), changes)

    def config_map(self, namespace: str, name: str, data: Mapping[str, str]) -> None:
        """Keep these keys of a ConfigMap."""
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": dict(data)}
        if not self.ensure(ConfigMap.resource, namespace, obj):
            return
        entry = self._cache.of(ConfigMap.resource).get(namespace, name)
        if entry is not None and any(entry.view(ConfigMap).data.get(key) != value for key, value in data.items()):
            current = entry.decode()
            current["data"] = {**(current.get("data") or {}), **data}
            self._writes.append(("PUT", ConfigMap.resource.path(namespace, name), current))

    def service_cidr(self, cidrs: Sequence[str], now: float) -> None:
        """The default range, which says that it is ready; one that is there with other ranges belongs to addresses in use and stays."""
        ref = ServiceCIDR.resource
        entry = self._cache.of(ref).get("", DEFAULT_SERVICE_CIDR)
        if entry is None:
            obj: Obj = {
                "apiVersion": ref.api_version,
                "kind": ref.kind,
                "metadata": {"name": DEFAULT_SERVICE_CIDR},
                "spec": {"cidrs": list(cidrs)},
            }
            self._writes.append(("POST", ref.path(), obj))
            return
        view = entry.view(ServiceCIDR)
        if view.spec.cidrs != tuple(cidrs):
            log.warning("the default service range differs from the configured one", extra={"stored": view.spec.cidrs, "configured": cidrs})
        elif not any(c.type == "Ready" and c.status == "True" for c in view.status.conditions):
            current = entry.decode()
            current["status"] = {"conditions": [_ready(now)]}
            self._writes.append(("PUT", ref.path(None, DEFAULT_SERVICE_CIDR, "status"), current))

    def _update(self, kind: type[Object], namespace: str, current: Obj, changes: Obj) -> None:
        if not changes:
            return
        metadata = changes.pop("metadata", {})
        for key, values in metadata.items():
            current["metadata"][key] = {**(current["metadata"].get(key) or {}), **values}
        if "aggregationRule" in changes:
            held = (current.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
            changes["aggregationRule"] = {"clusterRoleSelectors": [*held, *changes["aggregationRule"]["clusterRoleSelectors"]]}
        current.update(changes)
        self._writes.append(("PUT", kind.resource.path(namespace, current["metadata"]["name"]), current))


def _metadata_changes(current: Object, wanted: Obj) -> Obj | None:
    """Labels and annotations to be added, as the start of a change; None where the object is not ours to keep."""
    meta = current.metadata
    if meta.annotations.get(bootstrap_roles.AUTOUPDATE) == "false":
        return None
    metadata: Obj = {}
    for key, held in (("labels", meta.labels), ("annotations", meta.annotations)):
        missing = {name: value for name, value in wanted["metadata"][key].items() if name not in held}
        if missing:
            metadata[key] = missing
    return {"metadata": metadata} if metadata else {}


def _priority_class(name: str, value: int, description: str) -> Obj:
    ref = PriorityClass.resource
    return {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": {"name": name}, "value": value, "description": description}


def _authentication(settings: Settings) -> Mapping[str, str]:
    """What an extension API server needs to trust this one's clients and its proxied requests."""
    import json

    return {
        "client-ca-file": settings.client_ca_pem,
        "requestheader-client-ca-file": settings.front_proxy_ca_pem,
        "requestheader-allowed-names": json.dumps(list(settings.front_proxy_names)),
        "requestheader-username-headers": '["X-Remote-User"]',
        "requestheader-uid-headers": '["X-Remote-Uid"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
    }


def _ready(now: float) -> Obj:
    return {
        "type": "Ready",
        "status": "True",
        "reason": "",
        "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": timestamp(now),
    }
