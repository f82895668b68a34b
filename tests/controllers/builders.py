"""Objects for the controllers' pure tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson

from minikube_py.types.core import Node, NodeSpec, NodeStatus, Taint
from minikube_py.types.meta import Condition, LabelSelector, ObjectMeta, OwnerReference, timestamp
from minikube_py.types.network import Service, ServicePort, ServiceSpec
from minikube_py.types.pod import Container, ContainerPort, ContainerStatus, Pod, PodIP, PodSpec, PodStatus
from minikube_py.types.workload import (
    Deployment,
    DeploymentSpec,
    DeploymentStrategy,
    ReplicaSet,
    ReplicaSetSpec,
    RollingUpdateDeployment,
)

NOW = 1_700_000_000.0
LABELS = {"app": "web"}


def template(image: str = "web:1", **extra: Any) -> msgspec.Raw:
    """A pod template."""
    body = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "web", "image": image}], **extra}}
    return msgspec.Raw(orjson.dumps(body))


def owner(uid: str, kind: str = "ReplicaSet", name: str = "web") -> OwnerReference:
    """A controller reference."""
    return OwnerReference(apiVersion="apps/v1", kind=kind, name=name, uid=uid, controller=True, blockOwnerDeletion=True)


def pod(
    name: str,
    *,
    phase: str = "Running",
    ready: bool = True,
    since: float = NOW - 100,
    node: str = "n1",
    created: float = NOW - 1000,
    restarts: int = 0,
    ending: bool = False,
    labels: Mapping[str, str] = LABELS,
    annotations: Mapping[str, str] = {},
    owners: Sequence[OwnerReference] = (),
    ip: str = "",
    ports: Sequence[ContainerPort] = (),
    conditions: Sequence[Condition] = (),
    **spec: Any,
) -> Pod:
    """A pod."""
    ready_condition = Condition(type="Ready", status="True" if ready else "False", lastTransitionTime=timestamp(since))
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace="default",
            uid=f"uid-{name}",
            labels=labels,
            annotations=annotations,
            creationTimestamp=timestamp(created),
            deletionTimestamp=timestamp(NOW) if ending else None,
            ownerReferences=tuple(owners),
        ),
        spec=PodSpec(nodeName=node, containers=(Container(name="web", ports=tuple(ports)),), **spec),
        status=PodStatus(
            phase=phase,
            conditions=(ready_condition, *conditions),
            podIP=ip,
            podIPs=(PodIP(ip=ip),) if ip else (),
            containerStatuses=(ContainerStatus(name="web", restartCount=restarts),),
        ),
    )


def replica_set(name: str = "web", replicas: int = 3, image: str = "web:1", **fields: Any) -> ReplicaSet:
    """A ReplicaSet."""
    meta: dict[str, Any] = {"name": name, "namespace": "default", "uid": f"uid-{name}", "labels": LABELS, "generation": 1}
    meta.update(fields.pop("meta", {}))
    status = fields.pop("status", None)
    made = ReplicaSet(
        metadata=ObjectMeta(**meta),
        spec=ReplicaSetSpec(replicas=replicas, selector=LabelSelector(matchLabels=LABELS), template=template(image), **fields),
    )
    return made if status is None else msgspec.structs.replace(made, status=status)


def deployment(
    replicas: int = 3,
    image: str = "web:1",
    *,
    surge: int | str = "25%",
    unavailable: int | str = "25%",
    strategy: str = "RollingUpdate",
    meta: Mapping[str, Any] = {},
    **fields: Any,
) -> Deployment:
    """A Deployment."""
    rolling = RollingUpdateDeployment(maxSurge=surge, maxUnavailable=unavailable) if strategy == "RollingUpdate" else None
    return Deployment(
        metadata=ObjectMeta(**{"name": "web", "namespace": "default", "uid": "uid-web", "generation": 1, **meta}),
        spec=DeploymentSpec(
            replicas=replicas,
            selector=LabelSelector(matchLabels=LABELS),
            template=template(image),
            strategy=DeploymentStrategy(type=strategy, rollingUpdate=rolling),
            **fields,
        ),
    )


def node(
    name: str = "n1",
    *,
    conditions: Sequence[Condition] = (),
    taints: Sequence[Taint] = (),
    labels: Mapping[str, str] = {},
    unschedulable: bool = False,
    cidr: str = "",
) -> Node:
    """A node."""
    return Node(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}", labels=labels, creationTimestamp=timestamp(NOW - 10000)),
        spec=NodeSpec(taints=tuple(taints), unschedulable=unschedulable, podCIDR=cidr, podCIDRs=(cidr,) if cidr else ()),
        status=NodeStatus(conditions=tuple(conditions)),
    )


def service(name: str = "web", *, ports: Sequence[ServicePort] = (ServicePort(port=80),), **fields: Any) -> Service:
    """A Service with a selector."""
    fields.setdefault("selector", LABELS)
    fields.setdefault("clusterIP", "10.43.0.10")
    fields.setdefault("ipFamilies", ("IPv4",))
    labels = fields.pop("labels", {})
    meta = ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", labels=labels, creationTimestamp=timestamp(NOW))
    return Service(metadata=meta, spec=ServiceSpec(ports=tuple(ports), **fields))
