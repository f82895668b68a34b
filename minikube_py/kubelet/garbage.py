"""Which dead containers and sandboxes of a pod are kept. Pure.

Of each container the newest is kept, and the one before it, for `kubectl logs --previous` and lastState; of sandboxes the newest, and those
in which a kept container lies.
"""

from __future__ import annotations

from typing import NamedTuple

from minikube_py.kubelet.state import ContainerRecord, PodState, RunState, SandboxRecord


class Garbage(NamedTuple):
    """What can go."""

    containers: tuple[ContainerRecord, ...] = ()
    sandboxes: tuple[SandboxRecord, ...] = ()


def find(state: PodState) -> Garbage:
    """The garbage of a pod that is to run."""
    seen: dict[str, int] = {}
    containers = []
    for record in state.containers:
        before = seen.get(record.name, 0)
        seen[record.name] = before + 1
        if before >= 2 and record.state is RunState.EXITED:
            containers.append(record)
    kept = {c.sandbox_id for c in state.containers if c not in containers}
    sandboxes = tuple(s for s in state.sandboxes[1:] if not s.ready and s.id not in kept)
    return Garbage(tuple(containers), sandboxes)
