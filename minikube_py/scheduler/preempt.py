"""Preemption: which pods of less priority would have to go, on which node, for a pod to fit.

Pure, and upstream's rules. On a node all pods of less priority are taken away; if the pod fits then, as many as possible are put back, the
most important first, those that a disruption budget protects before all others. Of the nodes the one is taken whose victims matter least.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from minikube_py.meta import selectors
from minikube_py.scheduler.bench import Bench
from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.plugins import Rejection
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.types.meta import parse_timestamp
from minikube_py.types.policy import PodDisruptionBudget

DISRUPTION_TARGET = "DisruptionTarget"
REASON = "PreemptionByScheduler"

NO_VICTIMS = Rejection(("No preemption victims found for incoming pod",), False, "DefaultPreemption")
NOT_HELPFUL = "Preemption is not helpful for scheduling"
_SHARE = 10
_AT_LEAST = 100
"""How many nodes to find of which one is chosen: a tenth of those that could do, at least a hundred."""


class Preemption(NamedTuple):
    """The victims on a node, the most important first; `violations`: those among them that a budget protects."""

    node: str
    victims: tuple[PodInfo, ...]
    violations: int = 0


class Search(NamedTuple):
    """What was found, or why nothing, by reason."""

    best: Preemption | None
    reasons: dict[str, int]


def excuse(pod: PodInfo, nominated: NodeInfo | None, rejection: Rejection | None) -> str:
    """Why the pod may not take any pod's place now; "" where it may. `rejection`: what keeps it from the node that room is kept on."""
    if pod.pod.spec.preemptionPolicy == "Never":
        return "not eligible due to preemptionPolicy=Never."
    if nominated is None or (rejection is not None and not rejection.resolvable):
        return ""
    if any(other.priority < pod.priority and _is_going(other) for other in nominated.pods.values()):
        return "not eligible due to a terminating pod on the nominated node."
    return ""


def _is_going(victim: PodInfo) -> bool:
    if victim.pod.metadata.deletionTimestamp is None:
        return False
    condition = next((c for c in victim.pod.status.conditions if c.type == DISRUPTION_TARGET), None)
    return condition is not None and condition.status == "True" and condition.reason == REASON


def search(bench: Bench, nodes: Sequence[NodeInfo], budgets: Iterable[PodDisruptionBudget], random: Callable[[], float]) -> Search:
    """The best of the nodes that victims could be found on."""
    wanted = min(len(nodes), max(len(nodes) // _SHARE, _AT_LEAST))
    start = int(random() * len(nodes))
    budgets = tuple(budgets)
    safe: list[Preemption] = []
    violating: list[Preemption] = []
    reasons: dict[str, int] = {}
    for node in (*nodes[start:], *nodes[:start]):
        found = victims_on(bench, node, budgets)
        if isinstance(found, Rejection):
            for reason in found.reasons:
                reasons[reason] = reasons.get(reason, 0) + 1
            continue
        (violating if found.violations else safe).append(found)
        if safe and len(safe) + len(violating) >= wanted:
            break
    return Search(min((*safe, *violating), key=_harm, default=None), reasons)


def victims_on(bench: Bench, node: NodeInfo, budgets: Sequence[PodDisruptionBudget]) -> Preemption | Rejection:
    """The fewest and least important victims on a node; or why the pod would not fit without any of them."""
    pod = bench.pod
    candidates = [other for other in node.pods.values() if other.priority < pod.priority]
    if not candidates:
        return NO_VICTIMS
    trial = node.copy()
    for other in candidates:
        trial.remove(other.uid)
    rejection = bench.would_fit(trial)
    if rejection is not None:
        return rejection
    candidates.sort(key=_importance)
    protected = violating(candidates, budgets)
    victims: list[PodInfo] = []
    violations = 0
    for other in (*(c for c in candidates if c.uid in protected), *(c for c in candidates if c.uid not in protected)):
        trial.add(other)
        if bench.would_fit(trial) is not None:
            trial.remove(other.uid)
            victims.append(other)
            violations += other.uid in protected
    victims.sort(key=_importance)
    if not victims:
        return NO_VICTIMS
    return Preemption(node.name, tuple(victims), violations)


def _importance(pod: PodInfo) -> tuple[int, float]:
    """Sorts the most important first: priority, then age."""
    return -pod.priority, _started(pod)


def _started(pod: PodInfo) -> float:
    stamp = pod.pod.status.startTime
    return parse_timestamp(stamp) if stamp else sys.maxsize


def _harm(found: Preemption) -> tuple[int, int, int, int, float]:
    """Sorts the node whose victims matter least first: budgets, the highest priority, their sum, their number, their age."""
    highest = max(v.priority for v in found.victims)
    # every priority counts as above zero, so that fewer victims are better even where priorities are negative
    total = sum(v.priority + 2**31 for v in found.victims)
    oldest = min(_started(v) for v in found.victims if v.priority == highest)
    return found.violations, highest, total, len(found.victims), -oldest


def violating(pods: Iterable[PodInfo], budgets: Sequence[PodDisruptionBudget]) -> frozenset[str]:
    """The uids of those whose loss, in this order, would go beyond a budget."""
    left = [budget.status.disruptionsAllowed for budget in budgets]
    found: set[str] = set()
    for pod in pods:
        meta = pod.pod.metadata
        if not meta.labels:
            continue
        for at, budget in enumerate(budgets):
            if budget.metadata.namespace != meta.namespace or not _protects(budget, pod) or meta.name in budget.status.disruptedPods:
                continue
            left[at] -= 1
            if left[at] < 0:
                found.add(pod.uid)
    return frozenset(found)


def _protects(budget: PodDisruptionBudget, pod: PodInfo) -> bool:
    selector = budget.spec.selector
    if selector is None or not (selector.matchLabels or selector.matchExpressions):
        return False
    return selectors.matches(selector, pod.kind.labels)
