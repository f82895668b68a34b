"""Whether a node fits a node selector's terms: asked by the scheduler and the daemon sets' controller."""

from __future__ import annotations

from collections.abc import Mapping

from minikube_py.types.pod import NodeSelectorRequirement, NodeSelectorTerm, PodSpec


def fits(spec: PodSpec, labels: Mapping[str, str], name: str) -> bool:
    """Whether a pod's node selector and required node affinity allow the node of that name with those labels."""
    if not spec.nodeSelector.items() <= labels.items():
        return False
    affinity = spec.affinity.nodeAffinity if spec.affinity is not None else None
    required = affinity.requiredDuringSchedulingIgnoredDuringExecution if affinity is not None else None
    return required is None or any(term_matches(term, labels, name) for term in required.nodeSelectorTerms)


def term_matches(term: NodeSelectorTerm, labels: Mapping[str, str], name: str) -> bool:
    """Whether a term matches: all its requirements do; one without any matches nothing."""
    if not term.matchExpressions and not term.matchFields:
        return False
    return preference_matches(term, labels, name)


def preference_matches(term: NodeSelectorTerm, labels: Mapping[str, str], name: str) -> bool:
    """Whether all requirements of a term hold; a preference without any matches every node."""
    fields = {"metadata.name": name}
    return all(_holds(r, labels) for r in term.matchExpressions) and all(_holds(r, fields) for r in term.matchFields)


def _holds(requirement: NodeSelectorRequirement, values: Mapping[str, str]) -> bool:
    operator, value = requirement.operator, values.get(requirement.key)
    if operator == "In":
        return value is not None and value in requirement.values
    if operator == "NotIn":
        return value is None or value not in requirement.values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    if operator in ("Gt", "Lt") and value is not None and len(requirement.values) == 1:
        try:
            left, right = int(value), int(requirement.values[0])
        except ValueError:
            return False
        return left > right if operator == "Gt" else left < right
    return False
