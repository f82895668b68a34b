"""When a probe's result becomes a verdict: thresholds, as one pure step from count to count."""

from __future__ import annotations

from typing import NamedTuple

from minikube_py.kubelet.plan import Verdict
from minikube_py.types.handlers import Probe


class Run(NamedTuple):
    """How many times in a row a probe said the same."""

    last: bool | None = None
    length: int = 0


def observe(run: Run, ok: bool) -> Run:
    """Count a result."""
    return Run(ok, run.length + 1 if run.last is ok else 1)


def verdict(run: Run, probe: Probe) -> Verdict | None:
    """The verdict that the run amounts to; None while it is below the threshold."""
    if run.last is None:
        return None
    if run.last:
        return Verdict.SUCCESS if run.length >= max(probe.successThreshold, 1) else None
    return Verdict.FAILURE if run.length >= max(probe.failureThreshold, 1) else None
