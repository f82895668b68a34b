"""What is to be done for a pod: the rules of the kubelet's computePodActions, as one pure function from what is to what should be.

What always holds: a container that runs unchanged and healthy is in no list; init containers start one at a time, in order, each after the
one before it has done its part (a sidecar: has started); after the pod was initialized only sidecars among them are started again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from minikube_py.kubelet.resize import Resize
from minikube_py.kubelet.resources import is_sidecar
from minikube_py.kubelet.restarts import BackoffTable
from minikube_py.kubelet.state import ContainerRecord, PodState, RunState, container_hash
from minikube_py.types.pod import Container, ContainerRestartRule, Pod

NO_RESIZE = Resize()


RESTART_ALL = "RestartAllContainers"


class Verdict(Enum):
    """What a probe says of a container; UNKNOWN until it has said something."""

    UNKNOWN = "Unknown"
    SUCCESS = "Success"
    FAILURE = "Failure"


class Verdicts(NamedTuple):
    """The probes' last words, by container id."""

    liveness: Mapping[str, Verdict] = {}
    readiness: Mapping[str, Verdict] = {}
    startup: Mapping[str, Verdict] = {}


class Kill(NamedTuple):
    """A container to be ended. `grace` is given where a probe has its own grace period; None takes the pod's."""

    container: ContainerRecord
    message: str
    grace: int | None = None


class Waiting(NamedTuple):
    """Why a container does not run."""

    reason: str
    message: str = ""


class Plan(NamedTuple):
    """What to do, in this order: kill, sandbox, ephemeral containers, init containers, containers."""

    kill_pod: bool = False
    create_sandbox: bool = False
    attempt: int = 0
    kills: tuple[Kill, ...] = ()
    start: tuple[Container, ...] = ()
    resize: Resize = Resize()
    """What running containers are to be given, after what is killed has ended."""
    reset: tuple[ContainerRecord, ...] = ()
    """Containers to be ended and removed, in this order, for all of the pod's to start anew in the sandbox that stays."""
    waiting: Mapping[str, Waiting] = {}
    """Containers that would start if they were not held back, by name."""
    again_after: float | None = None
    """Seconds until the first of them may start."""

    @property
    def idle(self) -> bool:
        """Whether nothing is to be done now."""
        return not (self.kill_pod or self.create_sandbox or self.kills or self.start or self.resize.due or self.reset)


def restart_policy(pod: Pod, container: Container) -> str:
    """The policy that holds for a container: its own, or the pod's. A sidecar's is Always."""
    return container.restartPolicy or pod.spec.restartPolicy


def should_restart(pod: Pod, container: Container, record: ContainerRecord | None) -> bool:
    """Whether a container that does not run is to be started (again)."""
    if pod.metadata.deletionTimestamp is not None:
        return False
    if record is None:
        return True
    if record.running:
        return False
    if record.state in (RunState.UNKNOWN, RunState.CREATED):
        return True
    return restarts_after(pod, container, record.exit_code)


def restarts_after(pod: Pod, container: Container, code: int) -> bool:
    """Whether a container that ended with that code runs again: the first of its rules that matches says so, or its policy."""
    if _rule(container, code) is not None:
        return True  # both actions that a rule can have restart the container
    policy = restart_policy(pod, container)
    if policy == "OnFailure":
        return code != 0
    return policy == "Always"


def _rule(container: Container, code: int) -> ContainerRestartRule | None:
    if not container.restartPolicy:
        return None
    for rule in container.restartPolicyRules:
        codes = rule.exitCodes
        if codes is not None and (code in codes.values) == (codes.operator == "In"):
            return rule
    return None


def _to_reset(pod: Pod, state: PodState) -> tuple[ContainerRecord, ...]:
    """The containers that go since one of them has ended in a way that restarts them all (KEP-5532): that one last."""
    causes: list[ContainerRecord] = []
    others: list[ContainerRecord] = []
    for container in (*pod.spec.containers, *pod.spec.initContainers):
        records = state.all_of(container.name)
        rule = _rule(container, records[0].exit_code) if records and records[0].state is RunState.EXITED else None
        is_cause = rule is not None and rule.action == RESTART_ALL
        (causes if is_cause else others).extend(records)
    return (*others, *causes) if causes else ()


def restarts_all(pod: Pod, state: PodState) -> bool:
    """Whether all containers of the pod are being restarted."""
    return bool(_to_reset(pod, state))


def can_restart_all(pod: Pod) -> bool:
    """Whether any container of the pod has a rule that restarts them all."""
    return any(r.action == RESTART_ALL for c in (*pod.spec.initContainers, *pod.spec.containers) for r in c.restartPolicyRules)


def sandbox_changed(pod: Pod, state: PodState) -> tuple[bool, int]:
    """(whether a new sandbox is needed, its attempt or that of the one that stays)."""
    newest = state.sandbox
    if newest is None:
        return True, 0
    ready = sum(1 for s in state.sandboxes if s.ready)
    if ready > 1 or not newest.ready or newest.host_network != pod.spec.hostNetwork:
        return True, newest.attempt + 1
    if not pod.spec.hostNetwork and not newest.ips:
        return True, newest.attempt + 1
    return False, newest.attempt


def compute(pod: Pod, state: PodState, verdicts: Verdicts, backoff: BackoffTable, now: float, resize: Resize = NO_RESIZE) -> Plan:
    """The plan for a pod that is to run; `pod` is as it was allocated, `resize` what its running containers lack of that."""
    new_sandbox, attempt = sandbox_changed(pod, state)
    if pod.metadata.deletionTimestamp is None and (reset := _to_reset(pod, state)):
        remaining = backoff.remaining(backoff_key(pod, reset[-1].name), reset[-1].finished_at, now)
        return Plan(attempt=attempt, again_after=remaining) if remaining > 0 else Plan(attempt=attempt, reset=reset)
    if new_sandbox:
        return _from_scratch(pod, state, attempt, backoff, now)
    kills: list[Kill] = []
    start: list[Container] = [c for c in pod.spec.ephemeralContainers if state.of(c.name) is None]
    initialized, failed = _init_actions(pod, state, verdicts, kills, start)
    _resize_restarts(resize, kills, start)
    if failed:
        return Plan(kill_pod=True, attempt=attempt, kills=tuple(kills))
    if initialized:
        keep = _container_actions(pod, state, verdicts, kills, start)
        if keep == 0 and not any(c in pod.spec.containers for c in start):
            return Plan(kill_pod=True, attempt=attempt, kills=tuple(kills))
    plan = Plan(attempt=attempt, kills=tuple(kills), start=tuple(start), resize=_still_running(resize, kills))
    return _hold_back(plan, pod, state, backoff, now)


def _resize_restarts(resize: Resize, kills: list[Kill], start: list[Container]) -> None:
    """Containers whose resize policy wants a restart."""
    killed = {kill.container.id for kill in kills}
    for update in resize.restarts:
        if update.record.id not in killed:
            kills.append(Kill(update.record, f"Container {update.container.name} resize requires restart"))
            start.append(update.container)


def _still_running(resize: Resize, kills: Sequence[Kill]) -> Resize:
    killed = {kill.container.id for kill in kills}
    return resize._replace(updates=tuple(u for u in resize.updates if u.record.id not in killed))


def _from_scratch(pod: Pod, state: PodState, attempt: int, backoff: BackoffTable, now: float) -> Plan:
    had_containers = bool(state.containers)
    if pod.spec.restartPolicy == "Never" and attempt != 0 and had_containers and not _any_restarts(pod):
        return Plan(kill_pod=True, attempt=attempt)
    start = [c for c in pod.spec.containers if not _succeeded_for_good(pod, c, state)]
    if not start:
        return Plan(kill_pod=True, attempt=attempt)
    if pod.spec.initContainers:
        start = [pod.spec.initContainers[0]]
    plan = Plan(kill_pod=bool(state.sandboxes), create_sandbox=True, attempt=attempt, start=tuple(start))
    return _hold_back(plan, pod, state, backoff, now)


def _any_restarts(pod: Pod) -> bool:
    return any(restart_policy(pod, c) != "Never" or c.restartPolicyRules for c in pod.spec.containers)


def _succeeded_for_good(pod: Pod, container: Container, state: PodState) -> bool:
    record = state.of(container.name)
    done = record is not None and record.state is RunState.EXITED and record.exit_code == 0
    return done and restart_policy(pod, container) in ("OnFailure", "Never")


def has_initialized(pod: Pod, state: PodState) -> bool:
    """Whether a container proper was already created in the sandbox that runs."""
    sandbox = state.sandbox
    names = {c.name for c in pod.spec.containers}
    return sandbox is not None and any(c.sandbox_id == sandbox.id and c.name in names for c in state.containers)


def _init_actions(pod: Pod, state: PodState, verdicts: Verdicts, kills: list[Kill], start: list[Container]) -> tuple[bool, bool]:
    """(initialized, failed for good); what is to be killed and started is added to the lists."""
    sandbox = state.sandbox
    assert sandbox is not None
    current = {c.name: state.of(c.name) for c in pod.spec.initContainers}
    records = {name: r for name, r in current.items() if r is not None and r.sandbox_id == sandbox.id}
    initialized = has_initialized(pod, state)
    reached = max((i for i, c in enumerate(pod.spec.initContainers) if c.name in records), default=-1)
    if initialized:
        reached = len(pod.spec.initContainers)
    for index, container in enumerate(pod.spec.initContainers):
        record = records.get(container.name)
        if is_sidecar(container):
            passed = _sidecar(pod, container, record, index <= reached, verdicts, kills, start)
            if not passed and not initialized and index >= reached:
                if record is None and container not in start:
                    start.append(container)
                return False, False
            continue
        if initialized or index < reached:
            continue
        if record is None:
            start.append(container)
            return False, False
        match record.state:
            case RunState.EXITED if record.exit_code == 0:
                continue
            case RunState.EXITED:
                if not should_restart(pod, container, record):
                    return False, True
                start.append(container)
            case RunState.CREATED:
                start.append(container)
            case RunState.UNKNOWN:
                kills.append(Kill(record, f"Init container {container.name} is in unknown state, try killing it before restart"))
                start.append(container)
            case RunState.RUNNING:
                if record.hash and record.hash != container_hash(container):
                    kills.append(Kill(record, f"Init container {container.name} definition changed, will be restarted"))
                    start.append(container)
        return False, False
    return True, False


def _sidecar(
    pod: Pod,
    container: Container,
    record: ContainerRecord | None,
    was_reached: bool,
    verdicts: Verdicts,
    kills: list[Kill],
    start: list[Container],
) -> bool:
    """Whether the sidecar has started; what it needs is added to the lists."""
    if record is None or not record.running:
        if was_reached:
            start.append(container)
        return False
    kill = _unhealthy(container, record, verdicts, "Init container")
    if record.state is RunState.UNKNOWN:
        kill = Kill(record, f"Init container {container.name} is in unknown state, try killing it before restart")
    if kill is not None:
        kills.append(kill)
        start.append(container)
        return False
    return container.startupProbe is None or verdicts.startup.get(record.id) is Verdict.SUCCESS


def _container_actions(pod: Pod, state: PodState, verdicts: Verdicts, kills: list[Kill], start: list[Container]) -> int:
    """How many containers stay as they are."""
    keep = 0
    restarting = {c.name for c in start}
    for container in pod.spec.containers:
        record = state.of(container.name)
        if container.name in restarting:
            continue
        if record is None or record.state is not RunState.RUNNING:
            if should_restart(pod, container, record) or (record is not None and record.state is RunState.UNKNOWN):
                start.append(container)
                if record is not None and record.state is RunState.UNKNOWN:
                    message = f"Container {container.name} is in unknown state, try killing it before restart"
                    kills.append(Kill(record, message))
            continue
        kill = _unhealthy(container, record, verdicts, "Container")
        if kill is None:
            keep += 1
            continue
        changed = record.hash != container_hash(container)
        if changed or restart_policy(pod, container) != "Never":
            kill = kill._replace(message=kill.message + ", will be restarted")
            start.append(container)
        kills.append(kill)
    return keep


def _unhealthy(container: Container, record: ContainerRecord, verdicts: Verdicts, what: str) -> Kill | None:
    if record.hash and record.hash != container_hash(container):
        return Kill(record, f"{what} {container.name} definition changed")
    if verdicts.liveness.get(record.id) is Verdict.FAILURE:
        return Kill(record, f"{what} {container.name} failed liveness probe", _probe_grace(container.livenessProbe))
    if verdicts.startup.get(record.id) is Verdict.FAILURE:
        return Kill(record, f"{what} {container.name} failed startup probe", _probe_grace(container.startupProbe))
    return None


def _probe_grace(probe: object) -> int | None:
    return getattr(probe, "terminationGracePeriodSeconds", None)


def backoff_key(pod: Pod, name: str) -> str:
    """Under which a container's crashes are counted."""
    declared = next((c for c in (*pod.spec.containers, *pod.spec.initContainers, *pod.spec.ephemeralContainers) if c.name == name), None)
    return f"{pod.metadata.uid}_{name}_{container_hash(declared) if declared is not None else ''}"


def _hold_back(plan: Plan, pod: Pod, state: PodState, backoff: BackoffTable, now: float) -> Plan:
    """Take out what crashed too recently."""
    start: list[Container] = []
    waiting: dict[str, Waiting] = {}
    again: float | None = None
    for container in plan.start:
        record = state.of(container.name)
        key = backoff_key(pod, container.name)
        remaining = 0.0
        if record is not None and record.state is RunState.EXITED:
            remaining = backoff.remaining(key, record.finished_at, now)
        if remaining <= 0:
            start.append(container)
            continue
        meta = pod.metadata
        which = f"container={container.name} pod={meta.name}_{meta.namespace}({meta.uid})"
        message = f"back-off {duration(backoff.delay(key))} restarting failed {which}"
        waiting[container.name] = Waiting("CrashLoopBackOff", message)
        again = remaining if again is None else min(again, remaining)
        if container in pod.spec.initContainers and not is_sidecar(container):
            break
    return plan._replace(start=tuple(start), waiting=waiting, again_after=again)


def duration(seconds: float) -> str:
    """A time span as Go prints it: 10s, 1m20s, 5m0s."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s"
