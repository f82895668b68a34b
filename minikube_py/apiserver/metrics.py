"""Counters of requests and the event loop's lag, shown by /metrics in the Prometheus text format.

Counting costs one dictionary update; text is made when asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from minikube_py.aio import LagProbe
from minikube_py.apiserver.requestinfo import RequestInfo
from minikube_py.meta.expfmt import Family, Sample

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

    def family(self) -> Family:
        """The counters."""
        samples = []
        for (verb, group, version, resource, subresource, code), number in sorted(self._requests.items()):
            labels = {
                "verb": verb.upper(),
                "group": group,
                "version": version,
                "resource": resource,
                "subresource": subresource,
                "code": str(code),
            }
            samples.append(Sample(number, labels))
        return Family("apiserver_request_total", "counter", "Requests by verb, resource and the answer's code.", samples)


def of_loop(lag: LagProbe) -> Iterator[Family]:
    """How late the process's event loop was: a histogram, the worst, and the worst that was the loop's own doing. How many tasks it has:
    what is started and never ends shows here first."""
    name = "minikube_py_event_loop_lag_seconds"
    seen, samples = 0, []
    for bound, number in zip(lag.BUCKETS, lag.counts, strict=True):
        seen += number
        samples.append(Sample(seen, {"le": "+Inf" if bound == float("inf") else f"{bound:g}"}, suffix="_bucket"))
    samples += [Sample(lag.total, suffix="_sum"), Sample(seen, suffix="_count")]
    yield Family(name, "histogram", "How late the event loop was.", samples)
    yield Family(f"{name}_max", "gauge", "The worst of it.", [Sample(lag.worst)])
    blocked = "minikube_py_event_loop_blocked_seconds_max"
    yield Family(blocked, "gauge", "The worst that was not for want of a processor.", [Sample(lag.blocked)])
    yield Family("minikube_py_tasks", "gauge", "Tasks of the event loop.", [Sample(len(asyncio.all_tasks()))])
