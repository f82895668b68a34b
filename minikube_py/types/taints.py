"""Whether tolerations tolerate a taint: asked by the scheduler, the node controllers and the kubelet."""

from __future__ import annotations

from collections.abc import Iterable

from minikube_py.types.core import Taint
from minikube_py.types.pod import Toleration


def is_tolerated_by(taint: Taint, toleration: Toleration) -> bool:
    """Whether one toleration matches a taint."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    operator = toleration.operator or "Equal"
    if operator == "Exists":
        return True
    return operator == "Equal" and bool(toleration.key) and toleration.value == taint.value


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    """Whether any of the tolerations matches a taint."""
    return any(is_tolerated_by(taint, toleration) for toleration in tolerations)
