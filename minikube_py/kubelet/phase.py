"""A pod's phase, by how its containers are. Pure; the rules are the kubelet's getPhase.

What always holds: a container that will run again counts as one that has not ended; a sidecar keeps a pod running but never decides how it
has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from minikube_py.kubelet.plan import restarts_after
from minikube_py.kubelet.resources import is_sidecar
from minikube_py.types.pod import Container, Pod

Status = Mapping[str, Any]
RESTARTING_ALL = "RestartingAllContainers"


def phase(pod: Pod, init: Sequence[Status], main: Sequence[Status], *, ending: bool, restarting: bool = False) -> str:
    """The phase; `ending`: nothing of the pod will start again; `restarting`: all that has ended will."""
    pending, failed, sidecars_pending, running, waiting = False, False, False, 0, 0
    for container, status in zip(pod.spec.initContainers, init, strict=True):
        state = status["state"]
        if is_sidecar(container):
            if "running" in state:
                running += 1
                sidecars_pending = sidecars_pending or not status["started"]
            elif "waiting" in state and not status["lastState"].get("terminated"):
                waiting += 1
                sidecars_pending = True
            continue
        ended = state.get("terminated") or ("waiting" in state and status["lastState"].get("terminated"))
        if not ended:
            pending = True
        elif ended["exitCode"] != 0:
            failed = failed or not (restarting or _again(pod, container, ended))
    stopped = final = succeeded = 0
    for container, status in zip(pod.spec.containers, main, strict=True):
        state = status["state"]
        if "running" in state:
            running += 1
            continue
        ended = state.get("terminated") or status["lastState"].get("terminated")
        if not ended:
            waiting += 1
            continue
        stopped += 1
        final += not (restarting or _again(pod, container, ended))
        succeeded += "terminated" in state and ended["exitCode"] == 0
    if failed:
        return "Failed"
    if pending or waiting or (sidecars_pending and not any(has_started(main))):
        return "Pending"
    if running:
        return "Running"
    if not stopped:
        return "Pending"
    if not ending and stopped != final:
        return "Running"
    return "Succeeded" if stopped == succeeded else "Failed"


def has_started(main: Sequence[Status]) -> Iterator[bool]:
    """Of each container proper, whether it ever started."""
    for status in main:
        state = status["state"]
        yield bool("running" in state or "terminated" in state or status["lastState"].get("terminated"))


def _again(pod: Pod, container: Container, ended: Mapping[str, Any]) -> bool:
    return restarts_after(pod, container, ended["exitCode"]) or ended.get("reason") == RESTARTING_ALL
