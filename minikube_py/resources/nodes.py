"""Nodes. Upstream: pkg/registry/core/node, pkg/apis/core/validation (ValidateNode, ValidateNodeUpdate)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from minikube_py.meta.errors import Cause
from minikube_py.resources import placement, rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.rules import Faults

_UPDATABLE = (
    "node updates may only change labels, taints, or capacity (or configSource, if the DynamicKubeletConfig feature gate is enabled)"
)


class NodeStrategy(Strategy):
    """A node registers itself with what it has: its first status is its own."""

    has_status = True
    has_generation = False
    keeps_status = True
    selectable_fields = {"spec.unschedulable": lambda node: "true" if (node.get("spec") or {}).get("unschedulable") else "false"}

    def default(self, obj: Obj) -> None:
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        cidr, cidrs = spec.get("podCIDR"), spec.get("podCIDRs")
        if cidr and not cidrs:
            spec["podCIDRs"] = [cidr]
        elif cidrs and not cidr:
            spec["podCIDR"] = cidrs[0]
        status = obj.get("status")
        if status and status.get("allocatable") is None and status.get("capacity"):
            status["allocatable"] = dict(status["capacity"])

    def prepare_create(self, obj: Obj, context: WriteContext) -> None:
        super().prepare_create(obj, context)
        if obj.get("status") is None:
            obj["status"] = {}

    def validate(self, obj: Obj) -> list[Cause]:
        spec = obj.get("spec") or {}
        found = list(placement.taints("spec.taints", spec.get("taints") or ()))
        found += _pod_cidrs(spec)
        found += _status(obj.get("status") or {})
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        found = self.validate(obj)
        if context.subresource == "status":
            return found
        spec, before = obj.get("spec") or {}, old.get("spec") or {}
        for field in ("podCIDRs", "providerID"):
            if before.get(field) and spec.get(field) != before[field]:
                name = "podCIDRs" if field == "podCIDRs" else "providerID"
                found.append(Cause.forbidden(f"spec.{name}", "node updates may not change podCIDR except from \"\" to valid"
                                             if field == "podCIDRs" else "node updates may not change providerID except from \"\" to valid"))  # fmt: skip # noqa: E501
        kept = ("podCIDR", "podCIDRs", "providerID", "taints", "unschedulable", "configSource")
        if rules.without(spec, kept) != rules.without(before, kept):
            found.append(Cause.forbidden("", _UPDATABLE))
        return found


def _pod_cidrs(spec: Obj) -> Faults:
    cidrs: Sequence[str] = spec.get("podCIDRs") or ()
    families = []
    for i, cidr in enumerate(cidrs):
        try:
            families.append(ipaddress.ip_network(cidr, strict=False).version)
        except ValueError:
            yield Cause.invalid(f"spec.podCIDRs[{i}]", cidr, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
    if len(cidrs) > 1 and (len(cidrs) > 2 or len(set(families)) < 2):
        yield Cause.invalid("spec.podCIDRs", list(cidrs), "may specify no more than one CIDR for each IP family")
    if cidrs and spec.get("podCIDR") != cidrs[0]:
        yield Cause.invalid("spec.podCIDRs[0]", list(cidrs), "must be same as podCIDR")


def _status(status: Obj) -> Faults:
    for part in ("capacity", "allocatable"):
        for name, value in (status.get(part) or {}).items():
            yield from rules.amount(f"status.{part}[{name}]", value)
    seen: set[tuple[str, str]] = set()
    for i, address in enumerate(status.get("addresses") or ()):
        key = (address.get("type", ""), address.get("address", ""))
        if key in seen:
            yield Cause.duplicate(f"status.addresses[{i}]", address)
        seen.add(key)
