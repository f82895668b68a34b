"""Sums over the resources of a pod's containers, and the quality of service that follows from them.

Upstream: component-helpers' resource helpers and pkg/apis/core/v1/helper/qos. Values are the API's own texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minikube_py.meta import quantity
from minikube_py.resources.api import Obj

GUARANTEED, BURSTABLE, BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"
_COUNTED = ("cpu", "memory")


def parse(value: Any) -> quantity.Quantity:
    """A quantity of the API. Raises QuantityError."""
    return quantity.parse(value)


def container_requests(spec: Obj) -> Mapping[str, str]:
    """What the containers of a pod ask for together: the sum of the long-lived ones, or the greatest need on the way there."""
    total: dict[str, quantity.Quantity] = {}
    for container in spec.get("containers") or ():
        _add(total, (container.get("resources") or {}).get("requests") or {})
    sidecars: dict[str, quantity.Quantity] = {}
    peak: dict[str, quantity.Quantity] = {}
    for container in spec.get("initContainers") or ():
        requests = (container.get("resources") or {}).get("requests") or {}
        if container.get("restartPolicy") == "Always":
            _add(total, requests)
            _add(sidecars, requests)
            here = dict(sidecars)
        else:
            here = dict(sidecars)
            _add(here, requests)
        for name, amount in here.items():
            if name not in peak or peak[name] < amount:
                peak[name] = amount
    for name, amount in peak.items():
        if name not in total or total[name] < amount:
            total[name] = amount
    return {name: str(amount) for name, amount in total.items()}


def _add(total: dict[str, quantity.Quantity], requests: Mapping[str, Any]) -> None:
    for name, value in requests.items():
        amount = parse(value)
        total[name] = total[name] + amount if name in total else amount


def qos_class(spec: Obj) -> str:
    """A pod's quality of service class."""
    whole = spec.get("resources")
    if whole and (whole.get("requests") or whole.get("limits")):
        resources = [whole]
    else:
        resources = [c.get("resources") or {} for name in ("containers", "initContainers") for c in spec.get(name) or ()]
    asked = False
    guaranteed = True
    for given in resources:
        requests, limits = _counted(given.get("requests")), _counted(given.get("limits"))
        asked = asked or bool(requests) or bool(limits)
        if len(limits) != len(_COUNTED) or any(requests.get(name, limit) != limit for name, limit in limits.items()):
            guaranteed = False
    if not asked:
        return BEST_EFFORT
    return GUARANTEED if guaranteed else BURSTABLE


def _counted(amounts: Mapping[str, Any] | None) -> Mapping[str, quantity.Quantity]:
    if not amounts:
        return {}
    return {name: amount for name in _COUNTED if name in amounts and (amount := parse(amounts[name])).nano > 0}
