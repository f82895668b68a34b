"""Workloads: what the controllers read of deployments, replica sets, daemon sets, stateful sets and their revisions.

Pod templates stay raw: a controller copies them whole, so that fields which no view knows survive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from minikube_py.types.meta import Condition, LabelSelector, Object, ResourceRef, View
from minikube_py.types.pod import IntOrString, PodSpec

NO_TEMPLATE = msgspec.Raw(b"{}")


class ReplicaSetSpec(View, frozen=True):
    replicas: int = 1
    minReadySeconds: int = 0
    selector: LabelSelector = LabelSelector()
    template: msgspec.Raw = NO_TEMPLATE


class ReplicaSetStatus(View, frozen=True):
    replicas: int = 0
    fullyLabeledReplicas: int = 0
    readyReplicas: int = 0
    availableReplicas: int = 0
    terminatingReplicas: int | None = None
    observedGeneration: int = 0
    conditions: tuple[Condition, ...] = ()


class ReplicaSet(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("apps", "v1", "replicasets", "ReplicaSet")
    spec: ReplicaSetSpec = ReplicaSetSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()

    @property
    def label_selector(self) -> LabelSelector:
        """Which pods are meant."""
        return self.spec.selector


class ReplicationControllerSpec(View, frozen=True):
    replicas: int = 1
    minReadySeconds: int = 0
    selector: Mapping[str, str] = {}
    template: msgspec.Raw = NO_TEMPLATE


class ReplicationController(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("", "v1", "replicationcontrollers", "ReplicationController")
    spec: ReplicationControllerSpec = ReplicationControllerSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()

    @property
    def label_selector(self) -> LabelSelector:
        """Which pods are meant."""
        return LabelSelector(matchLabels=self.spec.selector)


class RollingUpdateDeployment(View, frozen=True):
    maxSurge: IntOrString = "25%"
    maxUnavailable: IntOrString = "25%"


class DeploymentStrategy(View, frozen=True):
    type: str = "RollingUpdate"
    rollingUpdate: RollingUpdateDeployment | None = None


class DeploymentSpec(View, frozen=True):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: msgspec.Raw = NO_TEMPLATE
    strategy: DeploymentStrategy = DeploymentStrategy()
    minReadySeconds: int = 0
    revisionHistoryLimit: int = 10
    progressDeadlineSeconds: int = 600
    paused: bool = False


class DeploymentStatus(View, frozen=True):
    observedGeneration: int = 0
    replicas: int = 0
    updatedReplicas: int = 0
    readyReplicas: int = 0
    availableReplicas: int = 0
    unavailableReplicas: int = 0
    terminatingReplicas: int | None = None
    conditions: tuple[Condition, ...] = ()
    collisionCount: int = 0


class Deployment(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("apps", "v1", "deployments", "Deployment")
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class ControllerRevision(Object, frozen=True):
    """One template that a daemon set or a stateful set had; `data` is the patch that brings it back."""

    resource: ClassVar[ResourceRef] = ResourceRef("apps", "v1", "controllerrevisions", "ControllerRevision")
    data: msgspec.Raw = NO_TEMPLATE
    revision: int = 0


class RollingUpdateDaemonSet(View, frozen=True):
    maxSurge: IntOrString = 0
    maxUnavailable: IntOrString = 1


class DaemonSetUpdateStrategy(View, frozen=True):
    type: str = "RollingUpdate"
    rollingUpdate: RollingUpdateDaemonSet | None = None


class DaemonSetSpec(View, frozen=True):
    selector: LabelSelector = LabelSelector()
    template: msgspec.Raw = NO_TEMPLATE
    updateStrategy: DaemonSetUpdateStrategy = DaemonSetUpdateStrategy()
    minReadySeconds: int = 0
    revisionHistoryLimit: int = 10


class DaemonSetStatus(View, frozen=True):
    currentNumberScheduled: int = 0
    numberMisscheduled: int = 0
    desiredNumberScheduled: int = 0
    numberReady: int = 0
    observedGeneration: int = 0
    updatedNumberScheduled: int = 0
    numberAvailable: int = 0
    numberUnavailable: int = 0
    collisionCount: int = 0


class DaemonSet(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("apps", "v1", "daemonsets", "DaemonSet")
    spec: DaemonSetSpec = DaemonSetSpec()
    status: DaemonSetStatus = DaemonSetStatus()


class RollingUpdateStatefulSet(View, frozen=True):
    partition: int = 0


class StatefulSetUpdateStrategy(View, frozen=True):
    type: str = "RollingUpdate"
    rollingUpdate: RollingUpdateStatefulSet | None = None


class StatefulSetOrdinals(View, frozen=True):
    start: int = 0


class ClaimRetentionPolicy(View, frozen=True):
    whenDeleted: str = "Retain"
    whenScaled: str = "Retain"


class StatefulSetSpec(View, frozen=True):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: msgspec.Raw = NO_TEMPLATE
    volumeClaimTemplates: tuple[msgspec.Raw, ...] = ()
    serviceName: str = ""
    podManagementPolicy: str = "OrderedReady"
    updateStrategy: StatefulSetUpdateStrategy = StatefulSetUpdateStrategy()
    revisionHistoryLimit: int = 10
    minReadySeconds: int = 0
    persistentVolumeClaimRetentionPolicy: ClaimRetentionPolicy = ClaimRetentionPolicy()
    ordinals: StatefulSetOrdinals = StatefulSetOrdinals()


class StatefulSetStatus(View, frozen=True):
    observedGeneration: int = 0
    replicas: int = 0
    readyReplicas: int = 0
    currentReplicas: int = 0
    updatedReplicas: int = 0
    currentRevision: str = ""
    updateRevision: str = ""
    collisionCount: int = 0
    availableReplicas: int = 0


class StatefulSet(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("apps", "v1", "statefulsets", "StatefulSet")
    spec: StatefulSetSpec = StatefulSetSpec()
    status: StatefulSetStatus = StatefulSetStatus()


class _TemplateMeta(View, frozen=True):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Template(View, frozen=True):
    metadata: _TemplateMeta = _TemplateMeta()


class PodTemplate(View, frozen=True):
    """A template with its spec, for those who must know where its pods may run or how they end."""

    metadata: _TemplateMeta = _TemplateMeta()
    spec: PodSpec = PodSpec()


_template = msgspec.json.Decoder(_Template)
_pod_template = msgspec.json.Decoder(PodTemplate)


def template_labels(template: msgspec.Raw) -> dict[str, str]:
    """The labels of a raw pod template."""
    return _template.decode(template).metadata.labels


def pod_template(template: msgspec.Raw) -> PodTemplate:
    """A raw pod template, read."""
    return _pod_template.decode(template)
