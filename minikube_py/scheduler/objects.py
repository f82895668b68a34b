"""The other API objects that decisions read: namespaces, services, workloads' selectors, volumes and budgets, as plain mappings.

`version` of a sort goes up when something changed that a decision could have read, so that what was worked out from it can be told to be
stale.
"""

from __future__ import annotations

from collections.abc import Callable

from minikube_py.meta import selectors
from minikube_py.meta.selectors import Requirement, Selector
from minikube_py.types.core import Namespace, PersistentVolumeClaim
from minikube_py.types.meta import Labels, Object, V
from minikube_py.types.network import Service
from minikube_py.types.policy import PodDisruptionBudget
from minikube_py.types.storage import PersistentVolume, StorageClass
from minikube_py.types.workload import ReplicaSet, ReplicationController, StatefulSet

FOLLOWED: tuple[type[Object], ...] = (
    Namespace,
    Service,
    ReplicaSet,
    ReplicationController,
    StatefulSet,
    PersistentVolumeClaim,
    PersistentVolume,
    StorageClass,
    PodDisruptionBudget,
)


class Objects:
    """What there is of each kind; `applied` hears of changes to kinds whose change can make a pod possible."""

    def __init__(self, applied: Callable[[Object], None] = lambda changed: None) -> None:
        self._applied = applied
        self.namespaces: dict[str, Labels] = {}
        self.services: dict[str, dict[str, Labels]] = {}
        self.workloads: dict[tuple[str, str], Selector] = {}
        """(kind, namespace/name) → the selector of a ReplicaSet, ReplicationController or StatefulSet."""
        self.claims: dict[str, PersistentVolumeClaim] = {}
        self.volumes: dict[str, PersistentVolume] = {}
        self.classes: dict[str, StorageClass] = {}
        self.taken: dict[str, str] = {}
        """Volumes that this scheduler has picked, and for which claim; the API may not say so yet."""
        self.picked: dict[str, str] = {}
        """Claims that it has picked a node for, and which."""
        self.budgets: dict[str, PodDisruptionBudget] = {}
        self.namespace_version = self.workload_version = self.storage_version = 0

    def apply(self, old: Object | None, new: Object | None) -> None:
        """Take over a change: an informer's listener."""
        changed = new if new is not None else old
        assert changed is not None
        match changed:
            case Namespace():
                self._namespace(changed, new is None)
            case Service():
                self._service(changed, new is None)
            case ReplicaSet() | ReplicationController() | StatefulSet():
                self._workload(changed, new is None)
            case PersistentVolumeClaim():
                self._stored(self.claims, changed, new is None)
            case PersistentVolume():
                self._stored(self.volumes, changed, new is None)
            case StorageClass():
                self._stored(self.classes, changed, new is None)
            case PodDisruptionBudget():
                if new is None:
                    self.budgets.pop(changed.key, None)
                else:
                    self.budgets[changed.key] = changed

    def _namespace(self, changed: Namespace, gone: bool) -> None:
        name, labels = changed.metadata.name, changed.metadata.labels
        if gone:
            self.namespaces.pop(name, None)
            return
        known = self.namespaces.get(name)
        self.namespaces[name] = labels
        if known != labels:
            self.namespace_version += 1
            if known is not None:
                self._applied(changed)

    def _service(self, changed: Service, gone: bool) -> None:
        services = self.services.setdefault(changed.metadata.namespace, {})
        before = services.pop(changed.metadata.name, None)
        if not gone and changed.spec.selector:
            services[changed.metadata.name] = changed.spec.selector
        if before != services.get(changed.metadata.name):
            self.workload_version += 1

    def _workload(self, changed: ReplicaSet | ReplicationController | StatefulSet, gone: bool) -> None:
        key = (type(changed).resource.kind, changed.key)
        if gone:
            self.workloads.pop(key, None)
            return
        if isinstance(changed, ReplicationController):
            selector = selectors.of_labels(changed.spec.selector)
        else:
            selector = selectors.of_object(changed.spec.selector) or selectors.EVERYTHING
        if self.workloads.get(key) != selector:
            self.workloads[key] = selector
            self.workload_version += 1

    def _stored(self, kept: dict[str, V], changed: V, gone: bool) -> None:
        if gone:
            kept.pop(changed.key, None)
        else:
            kept[changed.key] = changed
        self.storage_version += 1
        self._applied(changed)

    def take(self, claim: str, node: str, volume: str = "") -> None:
        """A node was picked for a claim, and a volume where one is there."""
        self.picked[claim] = node
        if volume:
            self.taken[volume] = claim
        self.storage_version += 1

    def give_back(self, claim: str) -> None:
        """What was picked for a claim is picked no more, or the API says it by now."""
        self.picked.pop(claim, None)
        self.taken = {volume: taker for volume, taker in self.taken.items() if taker != claim}
        self.storage_version += 1

    def selector_of(self, labels: Labels, namespace: str, kind: str, owner: str) -> Selector:
        """Which pods belong together with one of these labels, by the services that select it and the workload that owns it."""
        requirements: dict[str, Requirement] = {}
        for wanted in self.services.get(namespace, {}).values():
            if wanted.items() <= labels.items():
                requirements.update((key, Requirement(key, selectors.Operator.EQUALS, (value,))) for key, value in wanted.items())
        found = list(requirements.values())
        selector = self.workloads.get((kind, f"{namespace}/{owner}")) if owner else None
        if selector is not None:
            found += [r for r in selector.requirements if requirements.get(r.key) != r]
        return Selector(tuple(sorted(found, key=lambda requirement: (requirement.key, str(requirement)))))
