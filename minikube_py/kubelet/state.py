"""What a pod is on the runtime, as frozen values: sandboxes and containers of one UID, with the labels by which they are found again.

The labels and annotations are the kubelet's own, so that every tool that reads a runtime (crictl, log shippers) finds what it expects, and
so that a restarted agent adopts what runs.
"""

from __future__ import annotations

import enum
from typing import NewType

import msgspec

from minikube_py.kubelet.resources import Amounts
from minikube_py.types.pod import Container

ContainerId = NewType("ContainerId", str)
SandboxId = NewType("SandboxId", str)

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"

HASH = "io.kubernetes.container.hash"
RESTART_COUNT = "io.kubernetes.container.restartCount"
TERMINATION_PATH = "io.kubernetes.container.terminationMessagePath"
TERMINATION_POLICY = "io.kubernetes.container.terminationMessagePolicy"
PORTS = "io.kubernetes.container.ports"
PRE_STOP = "io.kubernetes.container.preStopHandler"
GRACE_PERIOD = "io.kubernetes.pod.terminationGracePeriod"
RESOURCES = "minikube-py.io/resources"
"""What the container was made with, by which a later agent knows whether it is to be resized."""
DELETION_GRACE_PERIOD = "io.kubernetes.pod.deletionGracePeriod"


class RunState(enum.Enum):
    """A container's state, as CRI has it."""

    CREATED = "Created"
    RUNNING = "Running"
    EXITED = "Exited"
    UNKNOWN = "Unknown"


class ContainerRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One container on the runtime. Times are seconds since the epoch, 0 for "not yet"."""

    id: ContainerId
    name: str
    sandbox_id: SandboxId
    state: RunState
    attempt: int = 0
    created_at: float = 0
    started_at: float = 0
    finished_at: float = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    image: str = ""
    image_id: str = ""
    hash: str = ""
    log_path: str = ""
    grace_period: int | None = None
    pre_stop: str = ""
    """The hook as JSON, for a pod whose object is gone."""
    user: tuple[int, int, tuple[int, ...]] | None = None
    made_with: Amounts | None = None
    """What it was made with; None for a container of an agent that did not say."""

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.state is RunState.RUNNING


class SandboxRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One sandbox on the runtime."""

    id: SandboxId
    ready: bool
    attempt: int = 0
    created_at: float = 0
    ips: tuple[str, ...] = ()
    host_network: bool = False


class PodState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """All that the runtime has of one pod; sandboxes and containers the newest first."""

    uid: str
    name: str = ""
    namespace: str = ""
    sandboxes: tuple[SandboxRecord, ...] = ()
    containers: tuple[ContainerRecord, ...] = ()

    @property
    def sandbox(self) -> SandboxRecord | None:
        """The newest sandbox."""
        return self.sandboxes[0] if self.sandboxes else None

    def of(self, name: str) -> ContainerRecord | None:
        """The newest container of that name."""
        return next((c for c in self.containers if c.name == name), None)

    def all_of(self, name: str) -> tuple[ContainerRecord, ...]:
        """Every container of that name, the newest first."""
        return tuple(c for c in self.containers if c.name == name)

    @property
    def running(self) -> tuple[ContainerRecord, ...]:
        """The containers that run, or may."""
        return tuple(c for c in self.containers if c.state in (RunState.RUNNING, RunState.UNKNOWN))


def container_hash(container: Container) -> str:
    """What makes a running container another one when it changes: its name and image, as upstream's hash since 1.31. FNV-1a, in hex."""
    value = 0x811C9DC5
    for byte in msgspec.json.encode({"name": container.name, "image": container.image}):
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return f"{value:x}"


def encode_amounts(amounts: Amounts) -> str:
    """Amounts as an annotation."""
    return ",".join(map(str, amounts))


def decode_amounts(text: str) -> Amounts | None:
    """Amounts from an annotation; None where there are none."""
    return Amounts(*map(int, text.split(","))) if text else None


def pod_labels(uid: str) -> dict[str, str]:
    """The label selector of everything that belongs to a pod."""
    return {POD_UID: uid}
