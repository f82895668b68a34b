"""A pod's status from what the runtime has of it: phase, conditions, container statuses. Pure; the result is the JSON value of `status`.

The rules are the kubelet's (convertToAPIContainerStatuses, getPhase, status/generate.go). What always holds: a condition keeps its
lastTransitionTime while its status stays; a container that is to start again shows why it waits and, in lastState, how it ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from minikube_py.kubelet import phase as phases
from minikube_py.kubelet import plan as planning
from minikube_py.kubelet import resize
from minikube_py.kubelet.admission import is_static
from minikube_py.kubelet.plan import Verdict, Verdicts, Waiting
from minikube_py.kubelet.resources import Amounts, is_sidecar, pod_level, qos_class
from minikube_py.kubelet.state import ContainerRecord, PodState, RunState
from minikube_py.types.meta import timestamp
from minikube_py.types.pod import Container, ContainerStatus, Pod, ResourceRequirements

Status = dict[str, Any]
_TERMINAL = ("Succeeded", "Failed")
_MESSAGES_LIMIT = 12 * 1024
_REMOVED = "The container is removed because RestartAllContainers in place"


OCCASIONAL = frozenset({"PodResizePending", "PodResizeInProgress"})
"""Conditions of the kubelet's own that are there for a time only."""


class Facts(NamedTuple):
    """What goes into a status beside the pod and its state."""

    verdicts: Verdicts
    waiting: Mapping[str, Waiting]
    """Why containers do not run, by name."""
    host_ips: Sequence[str]
    now: float
    ending: bool = False
    """The pod is being ended for good: nothing in it starts again."""
    phase: str = ""
    """A terminal phase that was decided on (deadline, eviction), with its reason and message."""
    reason: str = ""
    message: str = ""
    disrupted: bool = False
    """The pod ends for the node's sake: it gets the condition DisruptionTarget with that message."""
    start_time: str = ""
    rejected: bool = False
    """The node has not taken the pod."""
    amounts: Mapping[str, Amounts] = {}
    """What running containers have been given, by id."""
    whole: ResourceRequirements | None = None
    """What the pod as a whole has been given, where that is known."""
    resize: Sequence[Status] = ()
    """The conditions that tell of a resize."""
    lost: bool = False
    """All of the pod's containers are known to be gone: those that the runtime does not know any more have ended."""


def generate(pod: Pod, state: PodState, facts: Facts) -> Status:
    """The whole status."""
    if facts.rejected:
        return _rejected(pod, facts)
    initialized = planning.has_initialized(pod, state)
    init = [_container(pod, c, state, facts, is_init=True) for c in pod.spec.initContainers]
    main = [_container(pod, c, state, facts, is_init=False, initialized=initialized) for c in pod.spec.containers]
    ephemeral = [_container(pod, c, state, facts, is_init=False, initialized=True) for c in pod.spec.ephemeralContainers]
    if facts.lost and not is_static(pod):
        _lose(pod, init, main)
    _shorten((*init, *main, *ephemeral))
    restarting = not facts.ending and planning.restarts_all(pod, state)
    phase = facts.phase or phases.phase(pod, init, main, ending=facts.ending, restarting=restarting)
    if facts.lost and not is_static(pod) and phase not in _TERMINAL:
        phase = "Failed"  # what was to end has ended, and nobody saw it succeed
    some_run = bool(state.running)
    if phase in _TERMINAL and some_run:
        shown = pod.status.phase if pod.status.phase not in _TERMINAL else "Running"
    else:
        shown = phase
    if pod.status.phase in _TERMINAL:
        shown = pod.status.phase
    status: Status = {"phase": shown, "observedGeneration": pod.metadata.generation}
    if facts.reason or pod.status.reason:
        status["reason"] = facts.reason or pod.status.reason
    if facts.message or pod.status.message:
        status["message"] = facts.message or pod.status.message
    status["conditions"] = _conditions(pod, state, init, main, phase, facts)
    if facts.host_ips:
        status["hostIP"] = facts.host_ips[0]
        status["hostIPs"] = [{"ip": ip} for ip in facts.host_ips]
    ips = pod_ips(pod, state, facts.host_ips)
    if ips:
        status["podIP"] = ips[0]
        status["podIPs"] = [{"ip": ip} for ip in ips]
    status["startTime"] = pod.status.startTime or facts.start_time
    status["qosClass"] = qos_class(pod)
    status.update(resize.of_the_whole(pod, facts.whole))
    if init:
        status["initContainerStatuses"] = init
    if main:
        status["containerStatuses"] = main
    if ephemeral:
        status["ephemeralContainerStatuses"] = ephemeral
    return status


def _rejected(pod: Pod, facts: Facts) -> Status:
    return {
        "phase": facts.phase,
        "reason": facts.reason,
        "message": facts.message,
        "observedGeneration": pod.metadata.generation,
        "conditions": [],
        "startTime": pod.status.startTime or facts.start_time,
        "qosClass": qos_class(pod),
    }


def pod_ips(pod: Pod, state: PodState, host_ips: Sequence[str]) -> tuple[str, ...]:
    """The pod's addresses: its sandbox's, the node's on the node's network, and what was last known once the sandbox is gone."""
    sandbox = state.sandbox
    if pod.spec.hostNetwork:
        return tuple(host_ips) if sandbox is not None or pod.status.podIPs else ()
    if sandbox is not None and sandbox.ips:
        return sandbox.ips
    return tuple(p.ip for p in pod.status.podIPs)


# Containers


def _passed(verdict: Verdict | None, before: bool) -> bool:
    return before if verdict in (None, Verdict.UNKNOWN) else verdict is Verdict.SUCCESS


def _container(pod: Pod, container: Container, state: PodState, facts: Facts, *, is_init: bool, initialized: bool = False) -> Status:
    records = state.all_of(container.name)
    newest = records[0] if records else None
    before = records[1] if len(records) > 1 else None
    previous = _previous(pod, container.name)
    out: Status = {"name": container.name}
    waiting = facts.waiting.get(container.name)
    held = waiting is not None and not facts.ending and planning.should_restart(pod, container, newest)
    last: Status | None = None
    held_back = is_init or (pod.spec.initContainers and not initialized)
    to_come = {"waiting": {"reason": "PodInitializing" if held_back else "ContainerCreating"}}
    if newest is None:
        if previous is not None and planning.can_restart_all(pod) and not facts.ending and previous.state.waiting is None:
            shown: Status = {"waiting": {"reason": phases.RESTARTING_ALL, "message": _REMOVED}}
            ended = _kept(previous) if previous.state.terminated is not None else {"exitCode": 137}
            last = {"terminated": {**ended, "reason": phases.RESTARTING_ALL, "message": _REMOVED}}
        elif previous is not None and previous.state.terminated is not None:
            shown = {"terminated": _kept(previous)}
        elif waiting is not None:
            shown = {"waiting": _waiting(waiting)}
        else:
            shown = to_come
    elif newest.state is RunState.RUNNING:
        shown = {"running": {"startedAt": timestamp(newest.started_at)}}
    elif newest.state is RunState.EXITED:
        ended = {"terminated": _terminated(newest)}
        if held and waiting is not None:
            shown, last = {"waiting": _waiting(waiting)}, ended
        else:
            shown = ended
    elif waiting is not None:
        shown = {"waiting": _waiting(waiting)}
    else:
        shown = to_come
    if last is None and before is not None and before.state is RunState.EXITED:
        last = {"terminated": _terminated(before)}
    if last is None and before is None and previous is not None and previous.lastState.terminated is not None:
        last = {"terminated": _kept_last(previous)}
    running = newest is not None and newest.running
    started = ready = False
    if running and newest is not None:
        # a restart of the agent changes nothing of a container until a probe has said something of it
        known = previous if previous is not None and previous.containerID == f"containerd://{newest.id}" else None
        startup, readiness = facts.verdicts.startup.get(newest.id), facts.verdicts.readiness.get(newest.id)
        started = container.startupProbe is None or _passed(startup, known is not None and bool(known.started))
        ready = started and (container.readinessProbe is None or _passed(readiness, known is not None and known.ready))
    if is_init and not is_sidecar(container):
        ready = newest is not None and newest.state is RunState.EXITED and newest.exit_code == 0
        ready = ready or (newest is None and previous is not None and previous.ready)
        started = running
    out["state"] = shown
    out["lastState"] = last or {}
    out["ready"] = ready
    out["restartCount"] = newest.attempt if newest is not None else previous.restartCount if previous is not None else 0
    out["image"] = newest.image if newest is not None and newest.image else container.image
    out["imageID"] = newest.image_id if newest is not None else previous.imageID if previous is not None else ""
    if newest is not None:
        out["containerID"] = f"containerd://{newest.id}"
    elif previous is not None and previous.containerID:
        out["containerID"] = previous.containerID
    out["started"] = started
    if container.volumeMounts:
        out["volumeMounts"] = [_volume_mount(mount) for mount in container.volumeMounts]
    if newest is not None:
        out["resources"] = resize.actual(container.resources, facts.amounts.get(newest.id), pod_level(pod))
        if container.resources.requests:
            out["allocatedResources"] = dict(container.resources.requests)
    if newest is not None and newest.user is not None:
        uid, gid, groups = newest.user
        out["user"] = {"linux": {"uid": uid, "gid": gid, "supplementalGroups": list(groups)}}
    return out


def _volume_mount(mount: Any) -> Status:
    out: Status = {"name": mount.name, "mountPath": mount.mountPath}
    if mount.readOnly:
        out["readOnly"] = True
        # a container that insists on it does not start without
        out["recursiveReadOnly"] = "Enabled" if mount.recursiveReadOnly == "Enabled" else "Disabled"
    return out


def _previous(pod: Pod, name: str) -> ContainerStatus | None:
    everybody = (*pod.status.containerStatuses, *pod.status.initContainerStatuses, *pod.status.ephemeralContainerStatuses)
    return next((s for s in everybody if s.name == name), None)


def _waiting(waiting: Waiting) -> Status:
    return {"reason": waiting.reason, **({"message": waiting.message} if waiting.message else {})}


def _shorten(statuses: Sequence[Status]) -> None:
    """All messages of a pod's ended containers together are bounded."""
    limit = _MESSAGES_LIMIT // max(len(statuses), 1)
    for status in statuses:
        for state in (status["state"], status["lastState"]):
            ended = state.get("terminated")
            if ended and len(ended.get("message", "")) * 4 > limit and len(whole := ended["message"].encode()) > limit:
                ended["message"] = whole[:limit].decode("utf-8", "ignore")


def _terminated(record: ContainerRecord) -> Status:
    out: Status = {"exitCode": record.exit_code, "reason": record.reason}
    if record.message:
        out["message"] = record.message
    if record.started_at:
        out["startedAt"] = timestamp(record.started_at)
    if record.finished_at:
        out["finishedAt"] = timestamp(record.finished_at)
    out["containerID"] = f"containerd://{record.id}"
    return out


def _lose(pod: Pod, init: Sequence[Status], main: Sequence[Status]) -> None:
    """Everything has ended: a container of an initialized pod of which that is not known has ended somehow."""
    message = "The container could not be located when the pod was terminated"
    lost = {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": message}
    reached = max((i for i, s in enumerate(init) if "waiting" not in s["state"] or s["lastState"].get("terminated")), default=-1)
    initialized = all(_initialized_by(c, s) for c, s in zip(pod.spec.initContainers, init, strict=True)) or any(phases.has_started(main))
    for status in (*init[: reached + 1], *(main if initialized else ())):
        if "terminated" not in status["state"]:
            id_ = {"containerID": status["containerID"]} if "running" in status["state"] and status.get("containerID") else {}
            status["state"] = {"terminated": {**lost, **id_}}
            status["ready"] = status["started"] = False


def _initialized_by(container: Container, status: Status) -> bool:
    return bool(status["started"]) if is_sidecar(container) else bool(status["ready"])


def _kept(previous: ContainerStatus) -> Status:
    return _plain(previous.state.terminated)


def _kept_last(previous: ContainerStatus) -> Status:
    return _plain(previous.lastState.terminated)


def _plain(view: Any) -> Status:
    out: Status = {"exitCode": view.exitCode}
    for name in ("signal", "reason", "message", "startedAt", "finishedAt", "containerID"):
        value = getattr(view, name)
        if value:
            out[name] = value
    return out


# Conditions


def _conditions(pod: Pod, state: PodState, init: Sequence[Status], main: Sequence[Status], phase: str, facts: Facts) -> list[Status]:
    ready_sandbox = state.sandbox is not None and state.sandbox.ready and (pod.spec.hostNetwork or bool(state.sandbox.ips))
    initialized = _initialized(pod, init, main, phase)
    containers_ready = _containers_ready(main, _sidecars(pod, init), phase)
    ready = _ready(pod, containers_ready)
    made = {
        "PodReadyToStartContainers": {"status": "True" if ready_sandbox else "False"},
        "Initialized": initialized,
        "Ready": ready,
        "ContainersReady": containers_ready,
        "PodScheduled": {"status": "True"},
    }
    if planning.can_restart_all(pod):
        made["AllContainersRestarting"] = _restarting(pod, state, phase)
    if facts.disrupted:
        made["DisruptionTarget"] = {"status": "True", "reason": "TerminationByKubelet", "message": facts.message}
    before = {c.type: c for c in pod.status.conditions}
    out: list[Status] = []
    for type_, condition in made.items():
        old = before.get(type_)
        since = old.lastTransitionTime if old is not None and old.status == condition["status"] else None
        out.append(
            {
                "type": type_,
                "observedGeneration": pod.metadata.generation,
                **condition,
                "lastProbeTime": None,
                "lastTransitionTime": since or timestamp(facts.now),
            }
        )
    return [*({**condition, "lastProbeTime": None} for condition in facts.resize), *out]


def _restarting(pod: Pod, state: PodState, phase: str) -> Status:
    if phase in _TERMINAL:
        return {"status": "False", "reason": "PodCompleted" if phase == "Succeeded" else "PodFailed"}
    if not planning.restarts_all(pod, state):
        return {"status": "False"}
    return {"status": "True", "reason": "RestartAllContainersStarted", "message": "container exited with restart policy rule"}


def _sidecars(pod: Pod, init: Sequence[Status]) -> list[Status]:
    return [status for container, status in zip(pod.spec.initContainers, init, strict=True) if is_sidecar(container)]


def _initialized(pod: Pod, init: Sequence[Status], main: Sequence[Status], phase: str) -> Status:
    started = any("running" in s["state"] or "terminated" in s["state"] for s in main)
    incomplete: list[str] = []
    for container, status in zip(pod.spec.initContainers, init, strict=True):
        done = (bool(status["started"]) or started) if is_sidecar(container) else bool(status["ready"])
        if not done and not started:
            incomplete.append(container.name)
    was = any(c.type == "Initialized" and c.status == "True" for c in pod.status.conditions) and planning.can_restart_all(pod)
    if not incomplete or was:
        return {"status": "True", **({"reason": "PodCompleted"} if phase == "Succeeded" else {})}
    return {
        "status": "False",
        "reason": "ContainersNotInitialized",
        "message": f"containers with incomplete status: [{' '.join(incomplete)}]",
    }


def _containers_ready(main: Sequence[Status], sidecars: Sequence[Status], phase: str) -> Status:
    if phase == "Succeeded":
        return {"status": "False", "reason": "PodCompleted"}
    if phase == "Failed":
        return {"status": "False", "reason": "PodFailed"}
    unready = [s["name"] for s in (*sidecars, *main) if not s["ready"]]
    if not unready:
        return {"status": "True"}
    return {"status": "False", "reason": "ContainersNotReady", "message": f"containers with unready status: [{' '.join(unready)}]"}


def _ready(pod: Pod, containers_ready: Status) -> Status:
    if containers_ready["status"] != "True":
        return containers_ready
    problems: list[str] = []
    before = {c.type: c for c in pod.status.conditions}
    for gate in pod.spec.readinessGates:
        condition = before.get(gate.conditionType)
        if condition is None:
            problems.append(f'corresponding condition of pod readiness gate "{gate.conditionType}" does not exist.')
        elif condition.status != "True":
            problems.append(f'the status of pod readiness gate "{gate.conditionType}" is not "True", but {condition.status}')
    if problems:
        return {"status": "False", "reason": "ReadinessGatesNotReady", "message": ", ".join(problems)}
    return {"status": "True"}


# Writing


def shows(pod: Pod, status: Status) -> bool:
    """Whether the API's conditions say what ours do. Others write them too: a node that was silent has its pods marked as not ready."""
    shown = {c.type: c.status for c in pod.status.conditions}
    return all(shown.get(c["type"]) == c["status"] for c in status["conditions"])


def patch(pod: Pod, status: Status, last: Status | None) -> dict[str, Any]:
    """A strategic merge patch that brings the API's status to `status`, for this very pod: conditions of others stay as they are."""
    body = dict(status)
    told = {c["type"] for c in status["conditions"]}
    body["conditions"] = [{"reason": None, "message": None, **c} for c in status["conditions"]]
    body["conditions"] += [{"type": c.type, "$patch": "delete"} for c in pod.status.conditions if c.type in OCCASIONAL - told]
    for name in ("podIPs", "hostIPs"):
        shown = [p.ip for p in (pod.status.podIPs if name == "podIPs" else pod.status.hostIPs)]
        wanted = [p["ip"] for p in status.get(name, ())]
        if shown == wanted:
            body.pop(name, None)
        elif shown or (last is not None and last.get(name)):
            body[name] = [*status.get(name, ()), {"$patch": "replace"}]
    for name in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        if last is not None and last.get(name) == status.get(name) and name in status:
            body.pop(name)
    return {"metadata": {"uid": pod.metadata.uid}, "status": body}
