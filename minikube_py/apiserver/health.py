"""/healthz, /livez and /readyz: named checks, their answers in upstream's form.

A check is a function that gives the problem, or "" where there is none. /livez asks whether the process works at all, /readyz whether it
may be given work: that adds every supervised component.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from minikube_py.aio import Health
from minikube_py.apiserver.answers import text
from minikube_py.apiserver.api import Request, Response
from minikube_py.meta.expfmt import Family, Sample

log = logging.getLogger(__name__)

Check = Callable[[], str]
ENDPOINTS = ("healthz", "livez", "readyz")


class HealthChecks:
    """The checks of one server; `components` is looked at anew at each request."""

    def __init__(self, checks: Mapping[str, Check], components: Callable[[], Mapping[str, Health]]) -> None:
        self._checks, self._components = {"ping": lambda: "", **checks}, components
        self.starting = False
        """Whether components are still being started, of which /readyz cannot tell yet."""
        self.shutting_down = False
        self.parts: dict[str, Sequence[str]] = {}
        """The components of each part of the control plane."""
        self._last: dict[tuple[str, str], bool] = {}
        self._counts: Counter[tuple[str, str, bool]] = Counter()

    def groups(self) -> dict[str, str]:
        """Every part by the name of the separate program that it is elsewhere: the first problem of its components, or ""."""
        components = self._components()
        return {part: next((components[n].problem for n in names if components[n].problem), "") for part, names in self.parts.items()}

    def checks(self, endpoint: str) -> dict[str, Check]:
        """The checks of an endpoint, in order."""
        found = dict(self._checks)
        if endpoint == "readyz":
            for name, health in self._components().items():
                found[name] = lambda health=health: health.problem  # type: ignore[misc]
            found["startup"] = lambda: "components are still being started" if self.starting else ""
            found["shutdown"] = lambda: "the server is shutting down" if self.shutting_down else ""
        return found

    def problems(self) -> dict[str, str]:
        """What keeps /readyz from saying that all is well."""
        return {name: problem for name, check in self.checks("readyz").items() if (problem := check())}

    def answer(self, request: Request) -> Response:
        """The answer for /ENDPOINT or /ENDPOINT/CHECK."""
        endpoint, _, only = request.path.strip("/").partition("/")
        checks = self.checks(endpoint)
        if only:
            check = checks.get(only)
            if check is None:
                return text("404 page not found\n", 404)
            problem = check()
            return text("ok") if not problem else text(f"internal server error: {problem}\n", 500)
        excluded = set(_values(request.raw_query, "exclude"))
        lines, failed = [], []
        for name, check in checks.items():
            if name in excluded:
                excluded.discard(name)
                lines.append(f"[+]{name} excluded: ok")
                continue
            problem = check()
            self._last[name, endpoint] = not problem
            self._counts[name, endpoint, not problem] += 1
            if problem:
                failed.append(name)
                log.info("health check failed", extra={"endpoint": endpoint, "check": name, "problem": problem})
                lines.append(f"[-]{name} failed: reason withheld")
            else:
                lines.append(f"[+]{name} ok")
        if excluded:
            listed = ", ".join(f'"{name}"' for name in sorted(excluded))
            lines.append(f"warn: some health checks cannot be excluded: no matches for {listed}")
        if failed:
            return text("\n".join([*lines, f"{endpoint} check failed", ""]), 500)
        if "verbose" in request.query:
            return text("\n".join([*lines, f"{endpoint} check passed", ""]))
        return text("ok")

    def metrics(self) -> Iterator[Family]:
        """What the checks have said whenever an endpoint was asked as a whole (/metrics/slis)."""
        last = [Sample(well, {"name": name, "type": endpoint}) for (name, endpoint), well in self._last.items()]
        yield Family("kubernetes_healthcheck", "gauge", "[STABLE] This metric records the result of a single healthcheck.", last)
        counts = [
            Sample(number, {"name": name, "status": "success" if well else "error", "type": endpoint})
            for (name, endpoint, well), number in self._counts.items()
        ]
        yield Family("kubernetes_healthchecks_total", "counter", "[STABLE] This metric records the results of all healthcheck.", counts)


def _values(raw_query: str, name: str) -> list[str]:
    from urllib.parse import parse_qs

    return parse_qs(raw_query).get(name, [])
