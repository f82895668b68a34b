"""Pods and runtime states as values, for tests of policy."""

from __future__ import annotations

from typing import Any

import msgspec

from minikube_py.kubelet.state import ContainerId, ContainerRecord, PodState, RunState, SandboxId, SandboxRecord, container_hash
from minikube_py.types.pod import Pod

NOW = 1_700_000_000.0


def pod(*containers: dict[str, Any], status: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None, **spec: Any) -> Pod:
    """A pod `p` in `ns` with uid `u`, as if it had come from the API."""
    whole = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 1, **(metadata or {})},
        "spec": {"containers": [{"name": "main", "image": "i", **c} for c in containers or ({},)], "nodeName": "n", **spec},
        "status": status or {},
    }
    return msgspec.json.decode(msgspec.json.encode(whole), type=Pod)


def container(
    of: Pod,
    name: str = "main",
    state: RunState = RunState.RUNNING,
    *,
    code: int = 0,
    attempt: int = 0,
    sandbox: str = "s0",
    ended: float = NOW,
) -> ContainerRecord:
    """A container of a pod on the runtime; its id is name-attempt."""
    everybody = (*of.spec.containers, *of.spec.initContainers, *of.spec.ephemeralContainers)
    declared = next(c for c in everybody if c.name == name)
    exited = state is RunState.EXITED
    return ContainerRecord(
        id=ContainerId(f"{name}-{attempt}"),
        name=name,
        sandbox_id=SandboxId(sandbox),
        state=state,
        attempt=attempt,
        created_at=NOW - 100 + attempt,
        started_at=NOW - 99 + attempt,
        finished_at=ended if exited else 0,
        exit_code=code,
        reason=("Completed" if code == 0 else "Error") if exited else "",
        image="i",
        image_id="sha256:i",
        hash=container_hash(declared),
    )


def state(
    *containers: ContainerRecord, ready: bool = True, attempt: int = 0, sandboxes: tuple[SandboxRecord, ...] | None = None
) -> PodState:
    """What the runtime has: one sandbox with an address unless told otherwise, and these containers, the newest first."""
    if sandboxes is None:
        sandboxes = (SandboxRecord(id=SandboxId(f"s{attempt}"), ready=ready, attempt=attempt, ips=("10.0.0.5",)),)
    ordered = sorted(containers, key=lambda c: c.created_at, reverse=True)
    return PodState(uid="u", name="p", namespace="ns", sandboxes=sandboxes, containers=tuple(ordered))
