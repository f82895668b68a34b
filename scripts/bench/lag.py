"""The event loop's lag as a server measures it itself, between two readings of its metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.support.server import Server

_BUCKET = "minikube_py_event_loop_lag_seconds_bucket"


def lags(server: Server) -> Mapping[float, float]:
    """How many probes of the loop's lag were at or below each bound (seconds)."""
    found = re.findall(_BUCKET + r'\{le="([^"]+)"\} (\S+)', server.get("/metrics"))
    return {float(bound): float(number) for bound, number in found}


def percentile(before: Mapping[float, float], after: Mapping[float, float], share: float) -> float:
    """The bound below which a share (0..1) of the probes between two readings lies."""
    wanted = share * (after[float("inf")] - before[float("inf")])
    return next(bound for bound in sorted(after) if after[bound] - before[bound] >= wanted)
