"""Workloads: what the controllers read of deployments and replica sets.

Pod templates stay raw: a controller copies them whole, so that fields which no view knows survive.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from minikube_py.types.meta import Condition, LabelSelector, Object, ResourceRef, View
from minikube_py.types.pod import IntOrString

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


class _TemplateMeta(View, frozen=True):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Template(View, frozen=True):
    metadata: _TemplateMeta = _TemplateMeta()


_template = msgspec.json.Decoder(_Template)


def template_labels(template: msgspec.Raw) -> dict[str, str]:
    """The labels of a raw pod template."""
    return _template.decode(template).metadata.labels
