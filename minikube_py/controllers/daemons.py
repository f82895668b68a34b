"""Daemon sets' decisions: where a daemon belongs, what is to be created and deleted on each node, how far an update may go, the status.

Pure: values in, values out. The rules are upstream's (pkg/controller/daemon): a pod belongs to the node that its affinity names, scheduled
or not; the oldest of several wins; an update never leaves more nodes without a daemon than maxUnavailable, nor doubles more than maxSurge.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson

from minikube_py.controllers.pods import HASH_LABEL, is_available
from minikube_py.types import nodeaffinity
from minikube_py.types.core import Node
from minikube_py.types.meta import owner_reference, parse_timestamp
from minikube_py.types.pod import IntOrString, Pod, PodSpec, Toleration, is_ready, is_terminal
from minikube_py.types.taints import tolerates
from minikube_py.types.workload import DaemonSet, DaemonSetStatus, RollingUpdateDaemonSet, pod_template

BURST = 250
"""The most pods that one look creates or deletes."""
_EVERYWHERE = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
_HOST_NETWORK = ("node.kubernetes.io/network-unavailable", "NoSchedule")

ByNode = Mapping[str, Sequence[Pod]]


class Fit(NamedTuple):
    """Whether a daemon should be started on a node, and whether one that runs there may stay."""

    start: bool
    stay: bool


class Plan(NamedTuple):
    """Nodes that get a pod, pods that go, and those of them that have failed or ended (to be told of)."""

    create: tuple[str, ...] = ()
    delete: tuple[Pod, ...] = ()
    ended: tuple[Pod, ...] = ()
    again: float | None = None
    """Seconds until a failed pod may be replaced."""


# Where daemons belong


def tolerations(spec: PodSpec) -> tuple[tuple[str, str], ...]:
    """(key, effect) of the taints that every daemon tolerates."""
    return (*_EVERYWHERE, _HOST_NETWORK) if spec.hostNetwork else _EVERYWHERE


def fit(spec: PodSpec, node: Node) -> Fit:
    """Whether the template's pods belong on the node."""
    if spec.nodeName and spec.nodeName != node.metadata.name:
        return Fit(False, False)
    if not nodeaffinity.fits(spec, node.metadata.labels, node.metadata.name):
        return Fit(False, False)
    mine = (*spec.tolerations, *(Toleration(key=k, operator="Exists", effect=e) for k, e in tolerations(spec)))
    repelling = [t for t in node.spec.taints if t.effect in ("NoSchedule", "NoExecute") and not tolerates(mine, t)]
    return Fit(not repelling, not any(t.effect == "NoExecute" for t in repelling))


def target_node(pod: Pod) -> str:
    """The node that a daemon is bound to or made for; "" where it names none."""
    if pod.spec.nodeName:
        return pod.spec.nodeName
    affinity = pod.spec.affinity.nodeAffinity if pod.spec.affinity is not None else None
    required = affinity.requiredDuringSchedulingIgnoredDuringExecution if affinity is not None else None
    for term in required.nodeSelectorTerms if required is not None else ():
        for field in term.matchFields:
            if field.key == "metadata.name" and field.operator == "In" and len(field.values) == 1:
                return field.values[0]
    return ""


def by_node(pods: Iterable[Pod]) -> dict[str, list[Pod]]:
    """The daemons of each node. Those that have ended and are being deleted are past counting."""
    found: dict[str, list[Pod]] = {}
    for pod in pods:
        if is_terminal(pod) and pod.metadata.deletionTimestamp is not None:
            continue
        if node := target_node(pod):
            found.setdefault(node, []).append(pod)
    return found


# What to do


def plan(daemons: DaemonSet, nodes: Sequence[Node], pods: Sequence[Pod], digest: str, waits: Mapping[str, float], now: float) -> Plan:
    """What to create and to delete, whatever revision. `waits`: by node, seconds for which a failed daemon there is left alone."""
    spec = pod_template(daemons.spec.template).spec
    homes = by_node(pods)
    create: list[str] = []
    delete: list[Pod] = []
    ended: list[Pod] = []
    again: list[float] = []
    for node in nodes:
        name = node.metadata.name
        here = homes.get(name, [])
        start, stay = fit(spec, node)
        if start and not here:
            create.append(name)
        elif stay:
            running = []
            for pod in here:
                if pod.metadata.deletionTimestamp is not None:
                    continue
                if pod.status.phase == "Failed" and waits.get(name, 0.0) > 0:
                    again.append(waits[name])
                elif is_terminal(pod):
                    ended.append(pod)
                else:
                    running.append(pod)
            if surges(daemons):
                if not running and start and not ended:
                    create.append(name)
                delete += _surge_surplus(daemons, running, digest, now)
            else:
                delete += sorted(running, key=_age)[1:]
        else:
            delete += [pod for pod in here if pod.metadata.deletionTimestamp is None]
    known = {node.metadata.name for node in nodes}
    delete += [pod for name, there in homes.items() if name not in known for pod in there if not pod.spec.nodeName and _lives(pod)]
    return Plan(tuple(create[:BURST]), tuple([*ended, *delete][:BURST]), tuple(ended[:BURST]), min(again, default=None))


def _lives(pod: Pod) -> bool:
    return pod.metadata.deletionTimestamp is None


def _age(pod: Pod) -> tuple[Any, ...]:
    """Scheduled before unscheduled, then the oldest first."""
    created = parse_timestamp(pod.metadata.creationTimestamp) if pod.metadata.creationTimestamp else 0.0
    return (not pod.spec.nodeName, created, pod.metadata.name)


def _surge_surplus(daemons: DaemonSet, running: Sequence[Pod], digest: str, now: float) -> list[Pod]:
    """Of several daemons on a node one new and one old may stay, until the new one is available or the old one is not ready."""
    if len(running) <= 1:
        return []
    in_order = sorted(running, key=_age)
    new = next((pod for pod in in_order if is_updated(pod, digest)), None)
    old = next((pod for pod in in_order if not is_updated(pod, digest)), None)
    surplus = [pod for pod in in_order if pod is not new and pod is not old]
    if new is not None and old is not None and (not is_ready(old) or is_available(new, daemons.spec.minReadySeconds, now)):
        surplus.append(old)
    return surplus


def surges(daemons: DaemonSet) -> bool:
    """Whether an update starts the new daemon before the old one ends."""
    rolling = daemons.spec.updateStrategy.rollingUpdate
    return daemons.spec.updateStrategy.type == "RollingUpdate" and rolling is not None and _scaled(rolling.maxSurge, 100) > 0


def is_updated(pod: Pod, digest: str) -> bool:
    """Whether a pod is of the present template."""
    return bool(digest) and pod.metadata.labels.get(HASH_LABEL) == digest


def _scaled(value: IntOrString, total: int) -> int:
    if isinstance(value, int):
        return value
    return math.ceil(int(value.rstrip("%")) * total / 100) if value.endswith("%") else int(value)


# Rolling update


def rolling(daemons: DaemonSet, nodes: Sequence[Node], pods: Sequence[Pod], digest: str, now: float) -> Plan:
    """The next step of an update: old pods that may go, nodes that may have a second one."""
    spec = pod_template(daemons.spec.template).spec
    homes: dict[str, list[Pod]] = by_node(pods)
    wanted = [node.metadata.name for node in nodes if fit(spec, node).start]
    for name in wanted:
        homes.setdefault(name, [])
    limits = daemons.spec.updateStrategy.rollingUpdate or RollingUpdateDaemonSet()
    surge, unavailable = _scaled(limits.maxSurge, len(wanted)), _scaled(limits.maxUnavailable, len(wanted))
    if surge == 0:
        return _replace(daemons, homes, digest, max(unavailable, 1), now)
    return _double(daemons, homes, frozenset(wanted), digest, surge, now)


def _replace(daemons: DaemonSet, homes: ByNode, digest: str, limit: int, now: float) -> Plan:
    minimum = daemons.spec.minReadySeconds
    broken: list[Pod] = []
    sound: list[Pod] = []
    away = 0
    for here in homes.values():
        pair = _pair(here, digest)
        if pair is None or (pair.new is None) == (pair.old is None):
            away += 1
        elif pair.new is not None:
            away += not is_available(pair.new, minimum, now)
        elif pair.old is not None:
            if is_available(pair.old, minimum, now):
                sound.append(pair.old)
            else:
                broken.append(pair.old)
                away += 1
    return Plan(delete=tuple([*broken, *sound[: max(0, limit - away)]][:BURST]))


def _double(daemons: DaemonSet, homes: ByNode, wanted: Collection[str], digest: str, limit: int, now: float) -> Plan:
    minimum = daemons.spec.minReadySeconds
    urgent: list[str] = []
    waiting: list[str] = []
    delete: list[Pod] = []
    leftover: list[Pod] = []
    doubles = available = 0
    for name, here in homes.items():
        pair = _pair(here, digest)
        if pair is None:
            doubles += 1
            continue
        first = pair.old or pair.new
        is_well = first is not None and is_available(first, minimum, now)
        available += is_well
        if pair.old is None:
            continue
        if pair.new is None and name not in wanted:
            (leftover if is_well else delete).append(pair.old)
        elif pair.new is None:
            (waiting if is_well else urgent).append(name)
        elif is_available(pair.new, minimum, now):
            delete.append(pair.old)
        else:
            doubles += 1
    # where no new daemon belongs, the old one goes once the nodes that want one are served
    delete += leftover[: max(0, available - len(wanted))]
    return Plan(create=tuple([*urgent, *waiting[: max(0, limit - doubles)]][:BURST]), delete=tuple(delete[:BURST]))


class _Pair(NamedTuple):
    new: Pod | None
    old: Pod | None


def _pair(here: Sequence[Pod], digest: str) -> _Pair | None:
    """The new and the old daemon of a node; None where there are several of one sort: that is put right first."""
    living = [pod for pod in here if _lives(pod)]
    new = [pod for pod in living if is_updated(pod, digest)]
    old = [pod for pod in living if not is_updated(pod, digest)]
    if len(new) > 1 or len(old) > 1:
        return None
    return _Pair(new[0] if new else None, old[0] if old else None)


# What it makes and says


def status(daemons: DaemonSet, nodes: Sequence[Node], pods: Sequence[Pod], digest: str, collisions: int, now: float) -> DaemonSetStatus:
    """The counts."""
    spec = pod_template(daemons.spec.template).spec
    homes = by_node(pods)
    desired = current = misplaced = ready = available = updated = 0
    for node in nodes:
        here = sorted(homes.get(node.metadata.name, ()), key=_age)
        if fit(spec, node).start:
            desired += 1
            if here:
                current += 1
                ready += is_ready(here[0])
                available += is_available(here[0], daemons.spec.minReadySeconds, now)
                updated += is_updated(here[0], digest)
        elif here:
            misplaced += 1
    return DaemonSetStatus(
        currentNumberScheduled=current,
        numberMisscheduled=misplaced,
        desiredNumberScheduled=desired,
        numberReady=ready,
        observedGeneration=daemons.metadata.generation,
        updatedNumberScheduled=updated,
        numberAvailable=available,
        numberUnavailable=desired - available,
        collisionCount=collisions,
    )


def status_json(new: DaemonSetStatus) -> dict[str, Any]:
    """The status as the API takes it; None for what is left out of the object, as upstream does with counts of zero."""
    body: dict[str, Any] = {
        name: getattr(new, name)
        for name in ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady", "observedGeneration")
    }
    for name in ("updatedNumberScheduled", "numberAvailable", "numberUnavailable", "collisionCount"):
        body[name] = getattr(new, name) or None
    return body


def pod_body(daemons: DaemonSet, node: str, digest: str) -> bytes:
    """A daemon for one node: the scheduler binds it, to no other node."""
    parsed: dict[str, Any] = msgspec.json.decode(daemons.spec.template)
    meta: dict[str, Any] = parsed.get("metadata") or {}
    spec: dict[str, Any] = parsed.get("spec") or {}
    here = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]
    affinity = spec["affinity"] = dict(spec.get("affinity") or {})
    hosts = affinity["nodeAffinity"] = dict(affinity.get("nodeAffinity") or {})
    hosts["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": here}
    given = list(spec.get("tolerations") or ())
    for key, effect in (*_EVERYWHERE, *((_HOST_NETWORK,) if spec.get("hostNetwork") else ())):
        added = {"key": key, "operator": "Exists", "effect": effect}
        if added not in given:
            given.append(added)
    spec["tolerations"] = given
    labels = {**(meta.get("labels") or {}), HASH_LABEL: digest}
    generation = daemons.metadata.annotations.get("deprecated.daemonset.template.generation", "")
    if generation.isdigit():
        labels["pod-template-generation"] = generation
    return orjson.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "generateName": f"{daemons.metadata.name}-",
                "labels": labels,
                "annotations": meta.get("annotations") or {},
                "finalizers": meta.get("finalizers") or [],
                "ownerReferences": [owner_reference(daemons)],
            },
            "spec": spec,
        }
    )
