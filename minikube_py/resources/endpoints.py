"""Endpoints and endpoint slices. Upstream: pkg/apis/core/validation (ValidateEndpoints), pkg/apis/discovery."""

from __future__ import annotations

from collections.abc import Sequence

from minikube_py.meta import names
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.names import parse_ip
from minikube_py.resources.rules import Faults
from minikube_py.resources.services import not_special

_LIMIT = 1000
_PORTS = 20_000


class EndpointsStrategy(Strategy):
    """The older list of addresses behind a service."""

    has_generation = False
    allow_create_on_update = True

    def default(self, obj: Obj) -> None:
        for subset in obj.get("subsets") or ():
            for port in subset.get("ports") or ():
                if not port.get("protocol"):
                    port["protocol"] = "TCP"

    def validate(self, obj: Obj) -> list[Cause]:
        return [c for i, subset in enumerate(obj.get("subsets") or ()) for c in _subset(f"subsets[{i}]", subset)]

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        return [] if obj.get("subsets") == old.get("subsets") else self.validate(obj)


def _subset(path: str, subset: Obj) -> Faults:
    addresses, waiting = subset.get("addresses") or (), subset.get("notReadyAddresses") or ()
    if not addresses and not waiting:
        yield Cause.required(path, "must specify `addresses` or `notReadyAddresses`")
    for field, listed in (("addresses", addresses), ("notReadyAddresses", waiting)):
        for i, address in enumerate(listed):
            here, text = f"{path}.{field}[{i}]", address.get("ip", "")
            yield from rules.ip(f"{here}.ip", text)
            if address.get("hostname"):
                yield from rules.checked(f"{here}.hostname", address["hostname"], names.dns1123_label)
            if address.get("nodeName"):
                yield from rules.checked(f"{here}.nodeName", address["nodeName"], names.dns1123_subdomain)
            yield from not_special(f"{here}.ip", text)
    ports = subset.get("ports") or ()
    for i, port in enumerate(ports):
        here = f"{path}.ports[{i}]"
        if port.get("name"):
            yield from rules.checked(f"{here}.name", port["name"], names.dns1123_label)
        elif len(ports) > 1:
            yield Cause.required(f"{here}.name")
        yield from rules.port(f"{here}.port", port.get("port") or 0)
        yield from rules.one_of(f"{here}.protocol", port.get("protocol"), rules.PROTOCOLS)
        if port.get("appProtocol") is not None:
            yield from rules.checked(f"{here}.appProtocol", port["appProtocol"], names.label_key)


class EndpointSliceStrategy(Strategy):
    """Some of the addresses behind a service, all of one family."""

    def default(self, obj: Obj) -> None:
        for endpoint in obj.get("endpoints") or ():
            if endpoint.get("conditions") is None:
                endpoint["conditions"] = {}
        for port in obj.get("ports") or ():
            if port.get("name") is None:
                port["name"] = ""
            if port.get("protocol") is None:
                port["protocol"] = "TCP"

    def prepare_update(self, obj: Obj, old: Obj, context: WriteContext) -> None:
        super().prepare_update(obj, old, context)
        meta, before = obj["metadata"], old["metadata"]
        # Labels count too: they say which service the slice belongs to.
        if (meta.get("labels") or {}) != (before.get("labels") or {}) and meta.get("generation") == before.get("generation"):
            meta["generation"] = (before.get("generation") or 0) + 1

    def validate(self, obj: Obj) -> list[Cause]:
        found = list(rules.one_of("addressType", obj.get("addressType"), ("FQDN", "IPv4", "IPv6")))
        found += _endpoints(obj.get("endpoints") or (), obj.get("addressType") or "")
        found += _slice_ports(obj.get("ports") or ())
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        return [*self.validate(obj), *rules.unchanged("addressType", obj.get("addressType"), old.get("addressType"))]

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        if obj.get("addressType") == "FQDN" and old is None:
            return ["addressType: FQDN endpoints are deprecated"]
        return []


def _endpoints(endpoints: Sequence[Obj], family: str) -> Faults:
    if len(endpoints) > _LIMIT:
        yield Cause("FieldValueTooMany", "endpoints", f"Too many: {len(endpoints)}: must have at most {_LIMIT} items")
        return
    for i, endpoint in enumerate(endpoints):
        path, addresses = f"endpoints[{i}]", endpoint.get("addresses") or ()
        if not addresses:
            yield Cause.required(f"{path}.addresses", "must contain at least 1 address")
        elif len(addresses) > 100:
            yield Cause("FieldValueTooMany", f"{path}.addresses", f"Too many: {len(addresses)}: must have at most 100 items")
        for j, address in enumerate(addresses):
            here = f"{path}.addresses[{j}]"
            if family == "FQDN":
                yield from rules.checked(here, address, names.dns1123_subdomain)
                continue
            parsed = parse_ip(address)
            if parsed is None or f"IPv{parsed.version}" != family:
                yield Cause.invalid(here, address, f"must be a valid {family} address")
            yield from not_special(here, address)
        if endpoint.get("nodeName") is not None:
            yield from rules.checked(f"{path}.nodeName", endpoint["nodeName"], names.dns1123_subdomain)
        if endpoint.get("hostname") is not None:
            yield from rules.checked(f"{path}.hostname", endpoint["hostname"], names.dns1123_label)
        if "kubernetes.io/hostname" in (endpoint.get("deprecatedTopology") or {}):
            yield Cause.invalid(f"{path}.deprecatedTopology", "kubernetes.io/hostname", "may not be set, use nodeName instead")


def _slice_ports(ports: Sequence[Obj]) -> Faults:
    if len(ports) > _PORTS:
        yield Cause("FieldValueTooMany", "ports", f"Too many: {len(ports)}: must have at most {_PORTS} items")
        return
    taken: set[str] = set()
    for i, port in enumerate(ports):
        path, name = f"ports[{i}]", port.get("name") or ""
        if name:
            yield from rules.checked(f"{path}.name", name, names.dns1123_label)
        if name in taken:
            yield Cause.duplicate(f"{path}.name", name)
        taken.add(name)
        yield from rules.one_of(f"{path}.protocol", port.get("protocol"), rules.PROTOCOLS)
        if port.get("port") is not None:
            yield from rules.port(f"{path}.port", port["port"])
        if port.get("appProtocol") is not None:
            yield from rules.checked(f"{path}.appProtocol", port["appProtocol"], names.label_key)
