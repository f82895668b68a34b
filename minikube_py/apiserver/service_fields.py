"""The linked address fields of a Service: clusterIP and clusterIPs, ipFamilies and ipFamilyPolicy. Pure functions over the JSON value.

Clients may know only the older, singular fields, and may leave out what was allocated for them before; what they meant is worked out here,
before anything is allocated. Upstream: pkg/registry/core/service/storage.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from minikube_py.meta.errors import Cause, invalid

Obj = dict[str, Any]

IPV4, IPV6 = "IPv4", "IPv6"
NONE = "None"
SINGLE_STACK, PREFER_DUAL_STACK, REQUIRE_DUAL_STACK = "SingleStack", "PreferDualStack", "RequireDualStack"
EXTERNAL_NAME, NODE_PORT, LOAD_BALANCER = "ExternalName", "NodePort", "LoadBalancer"


def family_of(address: str) -> str:
    """The family of an address, in the API's words; of what is no address: IPv4."""
    return IPV6 if ":" in address else IPV4


def other_family(family: str) -> str:
    """The other one of the two."""
    return IPV4 if family == IPV6 else IPV6


def is_headless(spec: Obj) -> bool:
    """Whether the service wants no address."""
    return bool(spec.get("clusterIP") == NONE or (spec.get("clusterIPs") or [""])[0] == NONE)


def needs_cluster_ip(spec: Obj) -> bool:
    """Whether the service's type has addresses."""
    return bool(spec.get("type", "ClusterIP") != EXTERNAL_NAME)


def needs_node_ports(spec: Obj) -> bool:
    """Whether every port of the service gets a node port."""
    kind = spec.get("type")
    return bool(kind == NODE_PORT or (kind == LOAD_BALANCER and spec.get("allocateLoadBalancerNodePorts", True) is not False))


def may_have_node_ports(spec: Obj) -> bool:
    """Whether ports of the service may have node ports."""
    return spec.get("type") in (NODE_PORT, LOAD_BALANCER)


def needs_health_check(spec: Obj) -> bool:
    """Whether the service has a health check node port."""
    return bool(spec.get("type") == LOAD_BALANCER and spec.get("externalTrafficPolicy") == "Local")


def addresses(spec: Obj) -> list[str]:
    """The addresses that a service holds."""
    if not needs_cluster_ip(spec) or is_headless(spec):
        return []
    return [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP") or ""] if ip]


def node_ports(spec: Obj) -> list[int]:
    """The node ports that a service holds, the one for health checks among them."""
    ports = [p["nodePort"] for p in spec.get("ports") or () if p.get("nodePort")] if may_have_node_ports(spec) else []
    if needs_health_check(spec) and spec.get("healthCheckNodePort"):
        ports.append(spec["healthCheckNodePort"])
    return list(dict.fromkeys(ports))


def normalize(new: Obj, old: Obj | None) -> None:
    """Bring clusterIP and clusterIPs together, given what the client changed."""
    ip, ips = new.get("clusterIP") or "", new.get("clusterIPs") or []
    if old is None:
        if ip and not ips:
            new["clusterIPs"] = [ip]
        return
    old_ip, old_ips = old.get("clusterIP") or "", old.get("clusterIPs") or []
    if old_ips and not ips and old_ip == ip:
        new["clusterIPs"] = list(old_ips)
    if old_ip != ip and ips == old_ips:
        if old_ip and not ip:
            new.pop("clusterIPs", None)
        else:
            new["clusterIPs"] = [ip]


def carry_over(new: Obj, old: Obj) -> None:
    """Keep what was allocated before and the client left out."""
    if needs_cluster_ip(old) and needs_cluster_ip(new):
        if not new.get("clusterIP") and old.get("clusterIP"):
            new["clusterIP"] = old["clusterIP"]
        if not new.get("clusterIPs") and old.get("clusterIPs"):
            new["clusterIPs"] = list(old["clusterIPs"])
    if needs_node_ports(old) and needs_node_ports(new):
        held = {p["nodePort"] for p in old.get("ports") or () if p.get("nodePort")}
        used = held & {p.get("nodePort") for p in new.get("ports") or ()}
        by_name = {p.get("name", ""): p.get("nodePort", 0) for p in old.get("ports") or ()}
        for port in new.get("ports") or ():
            if not port.get("nodePort"):
                before = by_name.get(port.get("name", ""), 0)
                if before and before not in used:
                    port["nodePort"] = before
    if needs_health_check(old) and needs_health_check(new) and not new.get("healthCheckNodePort") and old.get("healthCheckNodePort"):
        new["healthCheckNodePort"] = old["healthCheckNodePort"]


def keeps_preferred(new: Obj, old: Obj | None) -> bool:
    """Whether a PreferDualStack service is updated without a word about its addresses: it then keeps those that it has."""
    return bool(
        old is not None
        and new.get("ipFamilyPolicy") == PREFER_DUAL_STACK
        and old.get("ipFamilyPolicy") in (None, PREFER_DUAL_STACK)
        and old.get("type") == new.get("type") != EXTERNAL_NAME
        and (new.get("clusterIPs") or []) == (old.get("clusterIPs") or [])
        and (new.get("ipFamilies") or []) == (old.get("ipFamilies") or [])
    )


def set_families(new: Obj, old: Obj | None, name: str, configured: Sequence[str]) -> None:
    """Work out ipFamilyPolicy and ipFamilies, given the families of the cluster (its own first). Raises Invalid."""
    if not needs_cluster_ip(new) or keeps_preferred(new, old):
        return
    selectorless = is_headless(new) and not new.get("selector")
    if not new.get("ipFamilyPolicy"):
        inherited = (old or {}).get("ipFamilyPolicy")
        new["ipFamilyPolicy"] = inherited or (REQUIRE_DUAL_STACK if selectorless else SINGLE_STACK)
    _refuse(name, validate_related(new))
    causes = _check_policy(new, old)
    families: list[str] = list(new.get("ipFamilies") or [])
    for index, ip in enumerate(new.get("clusterIPs") or []):
        if ip == NONE:
            break
        if index >= len(families):
            family = family_of(ip)
            if family in configured:
                families.append(family)
            else:
                field = f"spec.clusterIPs[{index}]"
                causes.append(Cause.invalid(field, new["clusterIPs"], f"{family} is not configured on this cluster"))
    _refuse(name, causes)
    dual = new["ipFamilyPolicy"] != SINGLE_STACK
    if selectorless:
        families = families or [configured[0]]
        if len(families) < 2 and dual:
            families.append(other_family(families[0]))
        new["ipFamilies"] = families
        return
    causes = []
    if new["ipFamilyPolicy"] == REQUIRE_DUAL_STACK and len(configured) < 2:
        detail = "this cluster is not configured for dual-stack services"
        causes.append(Cause.invalid("spec.ipFamilyPolicy", new["ipFamilyPolicy"], detail))
    for index, family in enumerate(families):
        if family not in configured:
            causes.append(Cause.invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster"))
    _refuse(name, causes)
    families = families or [configured[0]]
    if dual and len(families) == 1 and len(configured) == 2:
        families.append(other_family(families[0]))
    new["ipFamilies"] = families


def _check_policy(new: Obj, old: Obj | None) -> list[Cause]:
    """Whether the policy goes with the number of addresses and families; a change to SingleStack drops the second of each."""
    causes: list[Cause] = []
    policy, field = new["ipFamilyPolicy"], "spec.ipFamilyPolicy"
    for key, singular in (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")):
        now, before = new.get(key) or [], (old or {}).get(key) or []
        if old is not None:
            if policy == SINGLE_STACK:
                if now == before and len(now) > 1:
                    new[key] = now[:1]
            elif now and len(now) < len(before):
                causes.append(Cause.invalid(field, policy, f"must be 'SingleStack' to release the secondary {singular}"))
    if policy == SINGLE_STACK:
        for key, plural in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")):
            if len(new.get(key) or []) == 2:
                detail = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {plural} are specified"
                causes.append(Cause.invalid(field, policy, detail))
    return causes


def validate_related(spec: Obj) -> list[Cause]:
    """The faults of the linked fields among themselves."""
    causes: list[Cause] = []
    ip, ips, families = spec.get("clusterIP") or "", spec.get("clusterIPs") or [], spec.get("ipFamilies") or []
    field = "spec.clusterIPs"
    if ip and not ips:
        causes.append(Cause.required(field))
    elif ip and ips[0] != ip:
        causes.append(Cause.invalid(field, ips, "first value must match `clusterIP`"))
    elif ips and not ip:
        causes.append(Cause.invalid(field, ips, "must be empty when `clusterIP` is not specified"))
    for index, family in enumerate(families):
        if family not in (IPV4, IPV6):
            causes.append(Cause.not_supported(f"spec.ipFamilies[{index}]", family, (IPV4, IPV6)))
        elif family in families[:index]:
            causes.append(Cause.duplicate(f"spec.ipFamilies[{index}]", family))
    policy = spec.get("ipFamilyPolicy")
    policies = (PREFER_DUAL_STACK, REQUIRE_DUAL_STACK, SINGLE_STACK)
    if policy and policy not in policies:
        causes.append(Cause.not_supported("spec.ipFamilyPolicy", policy, policies))
    malformed = False
    for index, value in enumerate(ips):
        if index == 0 and value == NONE:
            if len(ips) > 1:
                malformed = True
                causes.append(Cause.invalid(field, ips, "'None' must be the first and only value"))
        elif not _is_address(value):
            malformed = True
            detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            causes.append(Cause.invalid(f"{field}[{index}]", value, detail))
    if len(ips) > 2:
        causes.append(Cause.invalid(field, ips, "may only hold up to 2 values"))
    if malformed:
        return causes
    if len(ips) > 1 and len({family_of(value) for value in ips}) < 2:
        causes.append(Cause.invalid(field, ips, "may specify no more than one IP for each IP family"))
    if ips and ips[0] != NONE:
        for index, (value, family) in enumerate(zip(ips, families, strict=False)):
            if family in (IPV4, IPV6) and family_of(value) != family:
                detail = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
                causes.append(Cause.invalid(f"{field}[{index}]", value, detail))
    return causes


def _refuse(name: str, causes: Sequence[Cause]) -> None:
    if causes:
        raise invalid("Service", name, causes)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
