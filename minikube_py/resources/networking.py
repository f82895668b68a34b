"""Ingresses, network policies, service CIDRs and IP addresses. Upstream: pkg/apis/networking, pkg/registry/networking."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from minikube_py.meta import names
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.rules import Faults

_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_CLASS = "kubernetes.io/ingress.class"
_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDS = ("/..", "/.")


class IngressStrategy(Strategy):
    """Routes from outside to services."""

    has_status = True
    initial_status = {"loadBalancer": {}}

    def default(self, obj: Obj) -> None:
        obj.setdefault("spec", {})

    def validate(self, obj: Obj) -> list[Cause]:
        found = list(_ingress(obj["spec"]))
        annotation, name = (obj["metadata"].get("annotations") or {}).get(_CLASS), obj["spec"].get("ingressClassName")
        if annotation is not None and name is not None and annotation != name:
            words = "must match `ingressClassName` when both are specified"
            found.append(Cause.invalid(f"metadata.annotations[{_CLASS}]", annotation, words))
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        return [] if context.subresource == "status" else list(_ingress(obj["spec"]))

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        if _CLASS in (obj["metadata"].get("annotations") or {}) and old is None:
            return [f"annotation \"{_CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"]
        return []


def _ingress(spec: Obj) -> Faults:
    listed, backend = spec.get("rules") or (), spec.get("defaultBackend")
    if backend is not None:
        yield from _backend("spec.defaultBackend", backend)
    elif not listed:
        yield Cause.invalid("spec", [], "either `defaultBackend` or `rules` must be specified")
    for i, tls in enumerate(spec.get("tls") or ()):
        for j, host in enumerate(tls.get("hosts") or ()):
            yield from _host(f"spec.tls[{i}].hosts[{j}]", host)
        if tls.get("secretName"):
            yield from rules.checked(f"spec.tls[{i}].secretName", tls["secretName"], names.dns1123_subdomain)
    for i, rule in enumerate(listed):
        host = rule.get("host") or ""
        if host:
            if rules_ip(host):
                yield Cause.invalid(f"spec.rules[{i}].host", host, "must be a DNS name, not an IP address")
            yield from _host(f"spec.rules[{i}].host", host)
        if (http := rule.get("http")) is not None:
            if not http.get("paths"):
                yield Cause.required(f"spec.rules[{i}].http.paths")
            for j, path in enumerate(http.get("paths") or ()):
                yield from _path(f"spec.rules[{i}].http.paths[{j}]", path)
    if spec.get("ingressClassName") is not None:
        yield from rules.checked("spec.ingressClassName", spec["ingressClassName"], names.dns1123_subdomain)


def rules_ip(host: str) -> bool:
    """Whether a host is an address."""
    return not list(rules.ip("", host))


def _host(path: str, host: str) -> Faults:
    yield from rules.checked(path, host, names.wildcard_dns1123_subdomain if "*" in host else names.dns1123_subdomain)


def _path(path: str, given: Obj) -> Faults:
    kind, text = given.get("pathType"), given.get("path") or ""
    if kind is None:
        yield Cause.required(f"{path}.pathType", "pathType must be specified")
        return
    if kind in ("Exact", "Prefix"):
        if not text.startswith("/"):
            yield Cause.invalid(f"{path}.path", text, "must be an absolute path")
        for bad in _BAD_SEQUENCES:
            if bad in text:
                yield Cause.invalid(f"{path}.path", text, f"must not contain '{bad}'")
        for bad in _BAD_ENDS:
            if text.endswith(bad):
                yield Cause.invalid(f"{path}.path", text, f"cannot end with '{bad}'")
    elif kind == "ImplementationSpecific":
        if text and not text.startswith("/"):
            yield Cause.invalid(f"{path}.path", text, "must be an absolute path")
    else:
        yield Cause.not_supported(f"{path}.pathType", kind, _PATH_TYPES)
    yield from _backend(f"{path}.backend", given.get("backend") or {})


def _backend(path: str, backend: Obj) -> Faults:
    service, resource = backend.get("service"), backend.get("resource")
    if resource is not None and service is not None:
        yield Cause.invalid(path, "", "cannot set both resource and service backends")
    elif resource is not None:
        for field in ("kind", "name"):
            if not resource.get(field):
                yield Cause.required(f"{path}.resource.{field}")
    elif service is None:
        yield Cause.required(path, "port name or number is required" if backend else "")
    else:
        if not service.get("name"):
            yield Cause.required(f"{path}.service.name")
        else:
            yield from rules.checked(f"{path}.service.name", service["name"], names.dns1123_label)
        port = service.get("port") or {}
        name, number = port.get("name") or "", port.get("number") or 0
        if name and number:
            yield Cause.invalid(path, "", "cannot set both port name & port number")
        elif name:
            yield from rules.checked(f"{path}.service.port.name", name, names.port_name)
        elif number:
            yield from rules.port(f"{path}.service.port.number", number)
        else:
            yield Cause.required(path, "port name or number is required")


class IngressClassStrategy(Strategy):
    """Which controller serves an ingress."""

    def default(self, obj: Obj) -> None:
        parameters = (obj.get("spec") or {}).get("parameters")
        if parameters is not None and parameters.get("scope") is None:
            parameters["scope"] = "Cluster"

    def validate(self, obj: Obj) -> list[Cause]:
        spec = obj.get("spec") or {}
        found = []
        controller = spec.get("controller") or ""
        if len(controller) > 250:
            found.append(Cause.too_long("spec.controller", 250))
        if not controller:
            found.append(Cause.required("spec.controller"))
        elif "/" not in controller:
            found.append(Cause.invalid("spec.controller", controller, 'must be a domain-prefixed path (such as "acme.io/foo")'))
        parameters = spec.get("parameters")
        if parameters is not None:
            found += [Cause.required(f"spec.parameters.{field}") for field in ("kind", "name") if not parameters.get(field)]
            scope, namespace = parameters.get("scope"), parameters.get("namespace")
            found += rules.optional("spec.parameters.scope", scope, ("Cluster", "Namespace"))
            if scope == "Namespace" and not namespace:
                found.append(Cause.required("spec.parameters.namespace", "`parameters.scope` is set to 'Namespace'"))
            if scope == "Cluster" and namespace is not None:
                found.append(Cause.forbidden("spec.parameters.namespace", "`parameters.scope` is set to 'Cluster'"))
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        before, now = (old.get("spec") or {}).get("controller"), (obj.get("spec") or {}).get("controller")
        return [*self.validate(obj), *rules.unchanged("spec.controller", now, before)]


class NetworkPolicyStrategy(Strategy):
    """Who may talk to a pod, and to whom it may talk."""

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("podSelector", {})
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
        for direction in ("ingress", "egress"):
            for rule in spec.get(direction) or ():
                for port in rule.get("ports") or ():
                    if port.get("protocol") is None:
                        port["protocol"] = "TCP"

    def validate(self, obj: Obj) -> list[Cause]:
        return list(_policy(obj["spec"]))


def _policy(spec: Obj) -> Faults:
    yield from rules.selector("spec.podSelector", spec.get("podSelector"))
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(direction) or ()):
            path = f"spec.{direction}[{i}]"
            for j, port in enumerate(rule.get("ports") or ()):
                yield from _policy_port(f"{path}.ports[{j}]", port)
            for j, peer in enumerate(rule.get(side) or ()):
                yield from _peer(f"{path}.{side}[{j}]", peer)
    types: Sequence[str] = spec.get("policyTypes") or ()
    if len(types) > 2:
        yield Cause.invalid("spec.policyTypes", list(types), "may not specify more than two policyTypes")
        return
    for i, kind in enumerate(types):
        if kind not in ("Ingress", "Egress"):
            yield Cause.not_supported(f"spec.policyTypes[{i}]", kind, ("Egress", "Ingress"))


def _policy_port(path: str, port: Obj) -> Faults:
    if port.get("protocol") is not None:
        yield from rules.optional(f"{path}.protocol", port["protocol"], rules.PROTOCOLS)
    number, end = port.get("port"), port.get("endPort")
    if number is not None:
        yield from rules.port_or_name(f"{path}.port", number)
        if end is not None:
            if isinstance(number, str):
                yield Cause.invalid(f"{path}.endPort", end, "may not be specified when `port` is non-numeric")
            else:
                if end < number:
                    yield Cause.invalid(f"{path}.endPort", end, "must be greater than or equal to `port`")
                yield from rules.port(f"{path}.endPort", end)
    elif end is not None:
        yield Cause.required(f"{path}.endPort", "may not be specified when `port` is not specified")


def _peer(path: str, peer: Obj) -> Faults:
    given = 0
    for field in ("podSelector", "namespaceSelector"):
        if peer.get(field) is not None:
            given += 1
            yield from rules.selector(f"{path}.{field}", peer[field])
    block = peer.get("ipBlock")
    if block is not None:
        given += 1
        yield from _block(f"{path}.ipBlock", block)
    if not given:
        yield Cause.required(path, "must specify a peer")
    elif given > 1 and block is not None:
        yield Cause.forbidden(path, "may not specify both ipBlock and another peer")


def _block(path: str, block: Obj) -> Faults:
    cidr = block.get("cidr") or ""
    if not cidr:
        yield Cause.required(f"{path}.cidr")
        return
    whole: Any = None
    try:
        whole = ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        yield Cause.invalid(f"{path}.cidr", cidr, _CIDR)
        return
    for i, exception in enumerate(block.get("except") or ()):
        here = f"{path}.except[{i}]"
        try:
            inner = ipaddress.ip_network(exception, strict=False)
        except ValueError:
            yield Cause.invalid(here, exception, _CIDR)
            continue
        if inner.version != whole.version or not inner.subnet_of(whole) or inner.prefixlen <= whole.prefixlen:
            yield Cause.invalid(here, exception, "must be a strict subset of `cidr`")


class ServiceCIDRStrategy(Strategy):
    """A range that services get their addresses from; it never changes."""

    has_status = True
    has_generation = False

    def validate(self, obj: Obj) -> list[Cause]:
        cidrs = (obj.get("spec") or {}).get("cidrs") or []
        found = []
        if not cidrs:
            found.append(Cause.required("spec.cidrs", "at least one CIDR required"))
        families = []
        for i, cidr in enumerate(cidrs):
            try:
                families.append(ipaddress.ip_network(cidr).version)
            except ValueError:
                found.append(Cause.invalid(f"spec.cidrs[{i}]", cidr, _CIDR))
        if len(cidrs) > 2 or (len(families) == 2 and len(set(families)) == 1):
            found.append(Cause.invalid("spec.cidrs", cidrs, "may only hold up to 2 values, one of each IP family"))
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        if context.subresource == "status":
            return []
        now, before = (obj.get("spec") or {}).get("cidrs"), (old.get("spec") or {}).get("cidrs")
        return list(rules.unchanged("spec.cidrs", now, before))


class IPAddressStrategy(Strategy):
    """An address that is taken, and by what."""

    has_generation = False

    def validate(self, obj: Obj) -> list[Cause]:
        parent = (obj.get("spec") or {}).get("parentRef")
        if parent is None:
            return [Cause.required("spec.parentRef")]
        found = [Cause.required(f"spec.parentRef.{field}") for field in ("resource", "name") if not parent.get(field)]
        if parent.get("group"):
            found += rules.checked("spec.parentRef.group", parent["group"], names.dns1123_subdomain)
        if parent.get("namespace"):
            found += rules.checked("spec.parentRef.namespace", parent["namespace"], names.dns1123_label)
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        now, before = (obj.get("spec") or {}).get("parentRef"), (old.get("spec") or {}).get("parentRef")
        return list(rules.unchanged("spec.parentRef", now, before))
