"""Counters of requests and the event loop's lag, shown by /metrics in the Prometheus text format.

Counting costs one dictionary update; text is made when asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from minikube_py.aio import LagProbe
from minikube_py.apiserver.requestinfo import RequestInfo

Sample = tuple[str, Mapping[str, str], float]

_SERIES = 10_000
"""Counters of their own; requests beyond are counted without saying what they were about, since anybody may ask about anything."""


class RequestMetrics:
    """How many requests had which verb, resource and code."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, str, str, str, int], int] = {}

    def count(self, info: RequestInfo, code: int) -> None:
        """One more request."""
        key = (info.verb, info.group, info.version, info.resource, info.subresource, code)
        counted = self._requests.get(key)
        if counted is None and len(self._requests) >= _SERIES:
            key = (info.verb, "", "", "", "", code)
            counted = self._requests.get(key)
        self._requests[key] = (counted or 0) + 1

    def samples(self) -> Iterator[Sample]:
        """The counters as samples."""
        for (verb, group, version, resource, subresource, code), number in sorted(self._requests.items()):
            labels = {
                "verb": verb.upper(),
                "group": group,
                "version": version,
                "resource": resource,
                "subresource": subresource,
                "code": str(code),
            }
            yield "apiserver_request_total", labels, number


def lag_samples(lag: LagProbe) -> Iterator[Sample]:
    """How late the process's event loop was: a histogram, the worst, and the worst that was the loop's own doing."""
    name = "minikube_py_event_loop_lag_seconds"
    seen = 0
    for bound, number in zip(lag.BUCKETS, lag.counts, strict=True):
        seen += number
        yield f"{name}_bucket", {"le": "+Inf" if bound == float("inf") else f"{bound:g}"}, seen
    yield f"{name}_sum", {}, lag.total
    yield f"{name}_count", {}, seen
    yield f"{name}_max", {}, lag.worst
    yield "minikube_py_event_loop_blocked_seconds_max", {}, lag.blocked


def task_samples() -> Iterator[Sample]:
    """How many tasks the process's event loop has: what is started and never ends shows here first."""
    yield "minikube_py_tasks", {}, len(asyncio.all_tasks())


def render(samples: Iterable[Sample]) -> str:
    """Samples in the text format."""
    lines = []
    for name, labels, value in samples:
        listed = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
        number = int(value) if value == int(value) else value
        lines.append(f"{name}{{{listed}}} {number}" if listed else f"{name} {number}")
    return "\n".join([*lines, ""])


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
