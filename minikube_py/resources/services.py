"""Services. Upstream: pkg/registry/core/service/strategy.go, pkg/apis/core/v1/defaults.go, pkg/apis/core/validation.

Addresses and node ports are given by the API server's allocation, between defaults and these rules; here is what a service may be once it
has them, and what falls away when its type changes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from minikube_py.meta import names
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.names import parse_ip
from minikube_py.resources.rules import Faults

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_WITH_PORTS = ("NodePort", "LoadBalancer")
_AFFINITIES = ("ClientIP", "None")
_TRAFFIC = ("Cluster", "Local")
_DAY = 86400
_KUBELET_PORT = 10250
_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"


class ServiceStrategy(Strategy):
    """A service keeps its address for life, unless it becomes a mere name."""

    has_status = True
    has_generation = False
    initial_status = {"loadBalancer": {}}
    selectable_fields = {
        "spec.clusterIP": lambda s: str((s.get("spec") or {}).get("clusterIP") or ""),
        "spec.type": lambda s: str((s.get("spec") or {}).get("type") or ""),
    }

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("sessionAffinity"):
            spec["sessionAffinity"] = "None"
        if spec["sessionAffinity"] == "None":
            spec.pop("sessionAffinityConfig", None)
        elif spec["sessionAffinity"] == "ClientIP":
            client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
            if client.get("timeoutSeconds") is None:
                client["timeoutSeconds"] = 10800
        if not spec.get("type"):
            spec["type"] = "ClusterIP"
        for port in spec.get("ports") or ():
            if not port.get("protocol"):
                port["protocol"] = "TCP"
            if port.get("targetPort") in (None, 0, ""):
                port["targetPort"] = port.get("port", 0)
        if _external(spec) and not spec.get("externalTrafficPolicy"):
            spec["externalTrafficPolicy"] = "Cluster"
        if spec["type"] != "ExternalName" and spec.get("internalTrafficPolicy") is None:
            spec["internalTrafficPolicy"] = "Cluster"
        if spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is None:
            spec["allocateLoadBalancerNodePorts"] = True

    def prepare_update(self, obj: Obj, old: Obj, context: WriteContext) -> None:
        super().prepare_update(obj, old, context)
        if context.subresource != "status":
            _drop_of_type(obj["spec"], old["spec"])

    def validate(self, obj: Obj) -> list[Cause]:
        return list(_service(obj["spec"], obj["metadata"].get("annotations") or {}))

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        if context.subresource == "status":
            return []
        return [*_addresses_kept(obj["spec"], old["spec"]), *self.validate(obj)]

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        found = []
        spec = obj["spec"]
        if spec.get("type") == "ExternalName" and spec.get("externalIPs"):
            found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
        if spec.get("clusterIP") == "None" and spec.get("loadBalancerIP"):
            found.append("spec.loadBalancerIP is ignored for headless services")
        if spec.get("clusterIP") == "None" and spec.get("externalIPs"):
            found.append("spec.externalIPs is ignored for headless services")
        if spec.get("clusterIP") == "None" and spec.get("sessionAffinity") not in (None, "None"):
            found.append("spec.SessionAffinity is ignored for headless services")
        return found


def _external(spec: Obj) -> bool:
    """Whether traffic from outside comes to the service."""
    return spec.get("type") in _WITH_PORTS or (spec.get("type") == "ClusterIP" and bool(spec.get("externalIPs")))


def _allocates_ports(spec: Obj) -> bool:
    return spec.get("type") == "NodePort" or (spec.get("type") == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def _checks_health(spec: Obj) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _drop_of_type(spec: Obj, old: Obj) -> None:
    """What belonged to the type that the service had, and that the client did not change, goes with it."""

    def drop(*fields: str) -> None:
        for field in fields:
            if spec.get(field) == old.get(field):
                spec.pop(field, None)

    if old.get("type") != "ExternalName" and spec.get("type") == "ExternalName":
        if (spec.get("clusterIPs"), spec.get("clusterIP")) == (old.get("clusterIPs"), old.get("clusterIP")):
            drop("clusterIP", "clusterIPs")
        drop("ipFamilies", "ipFamilyPolicy")
    if _allocates_ports(old) and not _allocates_ports(spec) and _node_ports(spec) == _node_ports(old):
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)
    if _checks_health(old) and not _checks_health(spec):
        drop("healthCheckNodePort")
    if old.get("type") == "LoadBalancer" and spec.get("type") != "LoadBalancer":
        drop("allocateLoadBalancerNodePorts", "loadBalancerClass")
    if _external(old) and not _external(spec):
        drop("externalTrafficPolicy")


def _node_ports(spec: Obj) -> set[int]:
    return {p["nodePort"] for p in spec.get("ports") or () if p.get("nodePort")}


def _addresses_kept(spec: Obj, old: Obj) -> Faults:
    """An address that a service has does not change while it has one."""
    if "ExternalName" in (spec.get("type"), old.get("type")):
        return
    for field in ("clusterIPs", "ipFamilies"):
        new, before = spec.get(field) or [], old.get(field) or []
        if before and not new:
            yield Cause.invalid(
                f"spec.{field}[0]", new, "primary clusterIP can not be unset" if field == "clusterIPs" else "may not be unset"
            )
        elif before and new[0] != before[0]:
            yield Cause.invalid(f"spec.{field}[0]", new, "may not change once set")
        elif len(before) > 1 and len(new) > 1 and new[1] != before[1]:
            yield Cause.invalid(f"spec.{field}[1]", new, "may not change once set")
    if _checks_health(spec) and _checks_health(old) and spec.get("healthCheckNodePort") != old.get("healthCheckNodePort"):
        yield Cause.forbidden("spec.healthCheckNodePort", rules.IMMUTABLE)
    if spec.get("type") == old.get("type") == "LoadBalancer" and spec.get("loadBalancerClass") != old.get("loadBalancerClass"):
        yield Cause.invalid("spec.loadBalancerClass", spec.get("loadBalancerClass"), "may not change once set")


def _service(spec: Obj, annotations: Obj) -> Faults:
    kind = spec.get("type")
    headless = (spec.get("clusterIPs") or [""])[0] == "None" or spec.get("clusterIP") == "None"
    ports = spec.get("ports") or ()
    if not ports and not headless and kind != "ExternalName":
        yield Cause.required("spec.ports")
    yield from _of_type(kind, spec, ports, headless)
    yield from _ports(ports)
    yield from rules.labels("spec.selector", spec.get("selector"))
    affinity = spec.get("sessionAffinity")
    yield from rules.one_of("spec.sessionAffinity", affinity, _AFFINITIES)
    if affinity == "ClientIP":
        timeout = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
        if timeout is None:
            yield Cause.required("spec.sessionAffinityConfig", "when session affinity type is ClientIP")
        elif not 0 < timeout <= _DAY:
            path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
            yield Cause.invalid(path, timeout, f"must be greater than 0 and less than {_DAY}")
    for i, address in enumerate(spec.get("externalIPs") or ()):
        yield from rules.ip(f"spec.externalIPs[{i}]", address)
        if parse_ip(address) is not None:
            yield from not_special(f"spec.externalIPs[{i}]", address)
    yield from rules.one_of("spec.type", kind, TYPES)
    yield from _source_ranges(kind, spec, annotations)
    if kind != "LoadBalancer":
        if spec.get("allocateLoadBalancerNodePorts") is not None:
            yield Cause.forbidden("spec.allocateLoadBalancerNodePorts", "may only be used when `type` is 'LoadBalancer'")
        if spec.get("loadBalancerClass") is not None:
            yield Cause.forbidden("spec.loadBalancerClass", "may only be used when `type` is 'LoadBalancer'")
    elif spec.get("loadBalancerClass") is not None:
        yield from rules.checked("spec.loadBalancerClass", spec["loadBalancerClass"], names.label_key)
    yield from _traffic(spec)


def _of_type(kind: str | None, spec: Obj, ports: Sequence[Obj], headless: bool) -> Faults:
    if kind == "LoadBalancer":
        for i, port in enumerate(ports):
            if port.get("port") == _KUBELET_PORT:
                words = f"may not expose port {_KUBELET_PORT} externally since it is used by kubelet"
                yield Cause.invalid(f"spec.ports[{i}]", _KUBELET_PORT, words)
    if headless and kind in _WITH_PORTS:
        yield Cause.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    if kind == "ClusterIP":
        for i, port in enumerate(ports):
            if port.get("nodePort"):
                yield Cause.forbidden(f"spec.ports[{i}].nodePort", "may not be used when `type` is 'ClusterIP'")
    if kind == "ExternalName":
        for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if spec.get(field):
                yield Cause.forbidden(f"spec.{field}", "may not be set for ExternalName services")
        yield from rules.named("spec.externalName", (spec.get("externalName") or "").removesuffix("."), names.dns1123_subdomain)


def _ports(ports: Sequence[Obj]) -> Faults:
    taken: set[str] = set()
    node_ports: set[tuple[str, int]] = set()
    numbers: set[tuple[str, int]] = set()
    for i, port in enumerate(ports):
        path, name, protocol = f"spec.ports[{i}]", port.get("name") or "", port.get("protocol", "")
        if name:
            yield from rules.checked(f"{path}.name", name, names.dns1123_label)
            if name in taken:
                yield Cause.duplicate(f"{path}.name", name)
            taken.add(name)
        elif len(ports) > 1:
            yield Cause.required(f"{path}.name")
        yield from rules.port(f"{path}.port", port.get("port") or 0)
        yield from rules.one_of(f"{path}.protocol", protocol, rules.PROTOCOLS)
        yield from rules.port_or_name(f"{path}.targetPort", port.get("targetPort"))
        if port.get("appProtocol") is not None:
            yield from rules.checked(f"{path}.appProtocol", port["appProtocol"], names.label_key)
        if node := port.get("nodePort"):
            if (protocol, node) in node_ports:
                yield Cause.duplicate(f"{path}.nodePort", node)
            node_ports.add((protocol, node))
        key = (protocol, port.get("port") or 0)
        if key in numbers:
            yield Cause.duplicate(path, {"protocol": protocol, "port": key[1]})
        numbers.add(key)


def not_special(path: str, address: str) -> Faults:
    """An address that a service or endpoint may have: no loopback, link-local or unspecified one."""
    parsed = parse_ip(address)
    if parsed is None:
        return
    if parsed.is_unspecified:
        yield Cause.invalid(path, address, f"may not be unspecified ({parsed})")
    if parsed.is_loopback:
        which = "127.0.0.0/8, ::1/128"
        yield Cause.invalid(path, address, f"may not be in the loopback range ({which})")
    if parsed.is_link_local:
        yield Cause.invalid(path, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    if parsed.is_multicast and ((parsed.version == 6 and str(parsed).startswith("ff02")) or str(parsed).startswith("224.0.0.")):
        yield Cause.invalid(path, address, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")


def _source_ranges(kind: str | None, spec: Obj, annotations: Obj) -> Faults:
    ranges = spec.get("loadBalancerSourceRanges")
    if ranges:
        path, listed = "spec.loadBalancerSourceRanges", ranges
    elif annotations.get(_RANGES) is not None:
        path, listed = f"metadata.annotations[{_RANGES}]", [r for r in annotations[_RANGES].split(",") if r.strip()]
    else:
        return
    if kind != "LoadBalancer":
        yield Cause.forbidden(path, "may only be used when `type` is 'LoadBalancer'")
    for given in listed:
        try:
            ipaddress.ip_network(given.strip(), strict=False)
        except ValueError:
            words = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            yield Cause.invalid(path, given, words)


def _traffic(spec: Obj) -> Faults:
    policy = spec.get("externalTrafficPolicy") or ""
    if not _external(spec):
        if policy:
            words = "may only be set for externally-accessible services"
            yield Cause.invalid("spec.externalTrafficPolicy", policy, words)
    else:
        yield from rules.one_of("spec.externalTrafficPolicy", policy, _TRAFFIC)
    check = spec.get("healthCheckNodePort")
    if not _checks_health(spec):
        if check:
            words = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            yield Cause.invalid("spec.healthCheckNodePort", check, words)
    elif not check:
        yield Cause.required("spec.healthCheckNodePort")
    else:
        yield from rules.port("spec.healthCheckNodePort", check)
    internal = spec.get("internalTrafficPolicy")
    if internal is None and spec.get("type") in ("ClusterIP", "NodePort", "LoadBalancer"):
        yield Cause.required("spec.internalTrafficPolicy")
    yield from rules.optional("spec.internalTrafficPolicy", internal, _TRAFFIC)
    if (way := spec.get("trafficDistribution")) is not None:
        yield from rules.optional("spec.trafficDistribution", way, ("PreferClose", "PreferSameZone", "PreferSameNode"))
