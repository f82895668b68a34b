"""What a pod worker works with: the node's shared parts, put together once by `kubelet.Kubelet`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from minikube_py.aio import Clock
from minikube_py.client import Client
from minikube_py.control import EventRecorder, Informer
from minikube_py.cri.client import CriClient
from minikube_py.cri.imagefs import ImageFilesystems
from minikube_py.kubelet.allocation import Allocations
from minikube_py.kubelet.cgroups import Cgroups
from minikube_py.kubelet.containers import Node
from minikube_py.kubelet.handlers import Handlers
from minikube_py.kubelet.images import Images
from minikube_py.kubelet.metrics import Metrics
from minikube_py.kubelet.objects import ReferencedObjects
from minikube_py.kubelet.options import KubeletOptions
from minikube_py.kubelet.probes import Probes
from minikube_py.kubelet.restarts import BackoffTable
from minikube_py.kubelet.runtime import Observer
from minikube_py.kubelet.runtimeclasses import RuntimeClasses
from minikube_py.kubelet.tokens import Tokens
from minikube_py.kubelet.volumes.claims import Claims
from minikube_py.types.core import ConfigMap, Secret
from minikube_py.types.network import Service
from minikube_py.types.pod import Pod


class Tools(msgspec.Struct, kw_only=True):
    """The shared parts. Each guards its own state; all run on one loop."""

    options: KubeletOptions
    client: Client
    cri: CriClient
    clock: Clock
    events: EventRecorder
    observer: Observer
    runtime_classes: RuntimeClasses
    images: Images
    image_filesystems: ImageFilesystems
    handlers: Handlers
    probes: Probes
    cgroups: Cgroups
    allocations: Allocations
    tokens: Tokens
    claims: Claims
    config_maps: ReferencedObjects[ConfigMap]
    secrets: ReferencedObjects[Secret]
    services: Informer[Service]
    node: Node
    pod_by_uid: Callable[[str], Pod | None]
    is_blocked: Callable[[Pod], bool]
    """Whether a static pod has to wait for the one that it replaces."""
    mirror_of: Callable[[Pod], Pod | None]
    """What shows a static pod in the API, while there is one."""
    allocatable: Mapping[str, str] = msgspec.field(default_factory=dict)
    metrics: Metrics = msgspec.field(default_factory=Metrics)
    restarts: BackoffTable = msgspec.field(default_factory=BackoffTable)
