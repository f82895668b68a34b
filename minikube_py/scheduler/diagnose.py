"""Why no node is possible, in upstream's words: every node's first rejection, counted; then what preemption could not do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from minikube_py.scheduler.bench import Bench
from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.plugins import Refusal, Rejection


class Diagnosis(NamedTuple):
    """Why no node is possible, as the event and the condition say it, and the plugins that said no."""

    message: str
    plugins: frozenset[str]


NO_NODES = Diagnosis("no nodes available to schedule pods", frozenset())
_NOT_NAMED = Rejection(("node(s) didn't satisfy plugin(s) [NodeAffinity]",), False, "NodeAffinity")


def rejections(bench: Bench, nodes: Iterable[NodeInfo], names: frozenset[str] | None) -> dict[str, Rejection]:
    """The first rejection of every node that is not possible; nodes outside `names` are rejected unseen."""
    found: dict[str, Rejection] = {}
    for node in nodes:
        rejection = _NOT_NAMED if names is not None and node.name not in names else bench.fits(node)
        if rejection is not None:
            found[node.name] = rejection
    return found


def refused(refusal: Refusal, total: int) -> Diagnosis:
    """A pod that no node is asked for. The last words are upstream's too: its preemption finds that nothing was worked out."""
    return Diagnosis(f"{_unavailable(total)} {refusal.message}. not found", frozenset({refusal.plugin}))


def rejected(found: Mapping[str, Rejection], total: int, preemption: str) -> Diagnosis:
    """A pod that every node rejects; `preemption` is what came of taking other pods' places, "" where that is under way."""
    reasons: dict[str, int] = {}
    for rejection in found.values():
        for reason in rejection.reasons:
            reasons[reason] = reasons.get(reason, 0) + 1
    message = f"{_unavailable(total)} {_histogram(reasons)}"
    if preemption:
        message += f" no new claims to deallocate, preemption: {preemption}"
    return Diagnosis(message, frozenset(rejection.plugin for rejection in found.values()))


def unhelpful(reasons: Mapping[str, int], total: int) -> str:
    """What came of a preemption that found nothing, by reasons."""
    return f"{_unavailable(total)} {_histogram(reasons)}"


def _unavailable(total: int) -> str:
    return f"0/{total} nodes are available:"


def _histogram(counts: Mapping[str, int]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items())) + "."
