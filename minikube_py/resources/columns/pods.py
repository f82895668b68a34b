"""Pods: the Ready, Status and Restarts that people read first are computed here, as upstream's printPod does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from minikube_py.resources.api import Columns, Obj
from minikube_py.resources.columns.base import NONE, age, columns, containers_text, labels_text, since


class Summary(NamedTuple):
    """What a pod's containers come to."""

    ready: int
    total: int
    status: str
    restarts: int
    last_restart: str


def _true(conditions: Sequence[Obj], kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in conditions)


def _terminated(prefix: str, state: Obj) -> str:
    """What a container's end is called: its reason, its signal or its exit code."""
    if state.get("reason"):
        return f"{prefix}{state['reason']}"
    if state.get("signal"):
        return f"{prefix}Signal:{state['signal']}"
    return f"{prefix}ExitCode:{state.get('exitCode', 0)}"


class _Restarts:
    """Restarts so far, and when the last one was. Timestamps of one clock in RFC 3339 compare as text."""

    def __init__(self) -> None:
        self.count, self.last = 0, ""

    def add(self, container: Obj) -> None:
        self.count += container.get("restartCount") or 0
        finished = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        self.last = max(self.last, finished)


def summarize(pod: Obj) -> Summary:
    """Ready and total containers, the status word and the restarts of a pod."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    conditions = status.get("conditions") or ()
    phase = status.get("phase") or ""
    word = status.get("reason") or phase
    if any(c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated" for c in conditions):
        word = "SchedulingGated"
    init = spec.get("initContainers") or ()
    sidecars = {c.get("name") for c in init if c.get("restartPolicy") == "Always"}
    total, ready = len(spec.get("containers") or ()) + len(sidecars), 0

    restarts, sidecar_restarts = _Restarts(), _Restarts()
    initializing = False
    for i, container in enumerate(status.get("initContainerStatuses") or ()):
        restarts.add(container)
        sidecar = container.get("name") in sidecars
        if sidecar:
            sidecar_restarts.add(container)
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if sidecar and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        if terminated is not None:
            word = _terminated("Init:", terminated)
        elif waiting and waiting.get("reason") and waiting["reason"] != "PodInitializing":
            word = f"Init:{waiting['reason']}"
        else:
            word = f"Init:{i}/{len(init)}"
        initializing = True
        break

    if not initializing or _true(conditions, "Initialized"):
        restarts = sidecar_restarts
        running = False
        for container in reversed(status.get("containerStatuses") or ()):
            restarts.add(container)
            state = container.get("state") or {}
            terminated, waiting = state.get("terminated"), state.get("waiting")
            if waiting and waiting.get("reason"):
                word = waiting["reason"]
            elif terminated is not None:
                word = _terminated("", terminated)
            elif container.get("ready") and state.get("running") is not None:
                running = True
                ready += 1
        if word == "Completed" and running:
            word = "Running" if _true(conditions, "Ready") else "NotReady"

    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            word = "Unknown"
        elif phase not in ("Succeeded", "Failed"):
            word = "Terminating"
    return Summary(ready, total, word, restarts.count, restarts.last)


def _gates(spec: Obj, conditions: Sequence[Obj]) -> str:
    gates = spec.get("readinessGates") or ()
    if not gates:
        return NONE
    by_type = {c.get("type"): c for c in reversed(conditions)}
    true = sum((by_type.get(g.get("conditionType")) or {}).get("status") == "True" for g in gates)
    return f"{true}/{len(gates)}"


def _pod(pod: Obj, now: float) -> Sequence[Any]:
    summary = summarize(pod)
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts += f" ({since(summary.last_restart, now)} ago)"
    ips = status.get("podIPs") or ()
    return (
        pod["metadata"].get("name", ""),
        f"{summary.ready}/{summary.total}",
        summary.status,
        restarts,
        age(pod, now),
        (ips[0].get("ip") if ips else "") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(spec, status.get("conditions") or ()),
    )


_COMPLETED = {
    "Succeeded": ({"type": "Completed", "status": "True", "reason": "Succeeded", "message": "The pod has completed successfully."},),
    "Failed": ({"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."},),
}


def _conditions(pod: Obj) -> Sequence[Obj]:
    return _COMPLETED.get((pod.get("status") or {}).get("phase") or "", ())


PODS = Columns(columns("Name, Ready, Status, Restarts, Age, IP+, Node+, Nominated Node+, Readiness Gates+"), _pod, _conditions)


def _template(obj: Obj, now: float) -> Sequence[Any]:
    template = obj.get("template") or {}
    labels = labels_text((template.get("metadata") or {}).get("labels"))
    return obj["metadata"].get("name", ""), *containers_text(template.get("spec") or {}), labels


POD_TEMPLATES = Columns(columns("Name, Containers, Images, Pod Labels"), _template)
