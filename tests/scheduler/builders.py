"""Nodes and pods for the scheduler's pure tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minikube_py.scheduler.nodeinfo import Cluster
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.types.core import ContainerImage, Node, NodeSpec, NodeStatus, Taint
from minikube_py.types.meta import ObjectMeta
from minikube_py.types.pod import Container, ContainerPort, Pod, PodSpec, PodStatus, ResourceRequirements


def node(
    name: str,
    cpu: str = "4",
    memory: str = "8Gi",
    pods: str = "110",
    *,
    labels: Mapping[str, str] = {},
    taints: Sequence[Taint] = (),
    unschedulable: bool = False,
    extra: Mapping[str, str] = {},
    images: Sequence[ContainerImage] = (),
) -> Node:
    """A node."""
    return Node(
        metadata=ObjectMeta(name=name, uid=name, labels=labels),
        spec=NodeSpec(taints=tuple(taints), unschedulable=unschedulable),
        status=NodeStatus(allocatable={"cpu": cpu, "memory": memory, "pods": pods, **extra}, images=tuple(images)),
    )


META = frozenset(ObjectMeta.__struct_fields__)


def pod(name: str, cpu: str = "", memory: str = "", *, ports: Sequence[int] = (), requests: Mapping[str, str] = {}, **fields: Any) -> Pod:
    """A pod of one container. Other fields are of its metadata, its spec, or (`status`) its status."""
    status = fields.pop("status", PodStatus())
    meta = {key: fields.pop(key) for key in list(fields) if key in META}
    spec = fields
    wanted = {**({"cpu": cpu} if cpu else {}), **({"memory": memory} if memory else {}), **requests}
    container = Container(
        name="main",
        resources=ResourceRequirements(requests=wanted),
        ports=tuple(ContainerPort(containerPort=p, hostPort=p) for p in ports),
    )
    spec.setdefault("containers", (container,))
    return Pod(metadata=ObjectMeta(**{"name": name, "namespace": "default", "uid": name, **meta}), spec=PodSpec(**spec), status=status)


def cluster(*nodes: Node) -> Cluster:
    """A cluster of these nodes."""
    made = Cluster()
    for each in nodes:
        made.set_node(each)
    return made


def info(*args: Any, **kwargs: Any) -> PodInfo:
    """A pod as the scheduler reckons with it."""
    return PodInfo(pod(*args, **kwargs))
