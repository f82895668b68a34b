"""Services, endpoints, ingresses, network policies and the address pools."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from minikube_py.resources.api import Columns, Obj
from minikube_py.resources.columns.base import NONE, age, columns, labels_text, selector_text

_SHOWN = 3


def _balancer(status: Obj) -> list[str]:
    """Addresses that a load balancer gave, sorted."""
    ingress = (status.get("loadBalancer") or {}).get("ingress") or ()
    return sorted({i.get("ip") or i.get("hostname") for i in ingress if i.get("ip") or i.get("hostname")})


def _external(spec: Obj, status: Obj) -> str:
    kind, ips = spec.get("type"), spec.get("externalIPs") or ()
    if kind in ("ClusterIP", "NodePort"):
        return ",".join(ips) or NONE
    if kind == "LoadBalancer":
        return ",".join([*_balancer(status), *ips]) or "<pending>"
    return spec.get("externalName") or "" if kind == "ExternalName" else "<unknown>"


def _port(port: Obj) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port', 0)}{node}/{port.get('protocol', '')}"


def _service(obj: Obj, now: float) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    ips = spec.get("clusterIPs") or ()
    return (
        obj["metadata"].get("name", ""), spec.get("type", ""), ips[0] if ips else NONE, _external(spec, obj.get("status") or {}),
        ",".join(_port(p) for p in spec.get("ports") or ()) or NONE, age(obj, now), labels_text(spec.get("selector")),
    )  # fmt: skip


def _clipped(items: Sequence[str], empty: str) -> str:
    """The first three of a list, and how many more there are."""
    text = ",".join(items[:_SHOWN])
    return f"{text} + {len(items) - _SHOWN} more..." if len(items) > _SHOWN else text or empty


def _join(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _addresses(subsets: Sequence[Obj]) -> Iterable[str]:
    for subset in subsets:
        ips = [a.get("ip", "") for a in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        if not ports:
            yield from ips
        for port in ports:
            yield from (_join(ip, port.get("port", 0)) for ip in ips)


def _endpoints(obj: Obj, now: float) -> Sequence[Any]:
    subsets = obj.get("subsets") or ()
    return obj["metadata"].get("name", ""), _clipped(list(_addresses(subsets)), "" if subsets else NONE), age(obj, now)


def _endpoint_slice(obj: Obj, now: float) -> Sequence[Any]:
    ports = [str(p["port"]) if p.get("port") is not None else p.get("name", "*") for p in obj.get("ports") or ()]
    addresses = [a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()]
    listed = _clipped(ports, "<unset>"), _clipped(addresses, "<unset>")
    return obj["metadata"].get("name", ""), obj.get("addressType", ""), *listed, age(obj, now)


def _hosts(rules: Sequence[Obj]) -> str:
    """Hosts of the rules; counted as upstream does, where rules after three hosts are «more», whatever they name."""
    shown: list[str] = []
    more = False
    for rule in rules:
        more = more or len(shown) == _SHOWN
        if not more and rule.get("host"):
            shown.append(rule["host"])
    return ",".join(shown) + (f" + {len(rules) - _SHOWN} more..." if more else "") or "*"


def _ingress(obj: Obj, now: float) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    name = spec.get("ingressClassName")
    return (
        obj["metadata"].get("name", ""), NONE if name is None else name, _hosts(spec.get("rules") or ()),
        ",".join(_balancer(obj.get("status") or {})), "80, 443" if spec.get("tls") else "80", age(obj, now),
    )  # fmt: skip


def _ingress_class(obj: Obj, now: float) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    parameters, text = spec.get("parameters"), NONE
    if parameters:
        group = parameters.get("apiGroup")
        text = parameters.get("kind", "") + ("" if group is None else f".{group}") + f"/{parameters.get('name', '')}"
    return obj["metadata"].get("name", ""), spec.get("controller", ""), text, age(obj, now)


def _network_policy(obj: Obj, now: float) -> Sequence[Any]:
    return obj["metadata"].get("name", ""), selector_text((obj.get("spec") or {}).get("podSelector") or {}), age(obj, now)


def _service_cidr(obj: Obj, now: float) -> Sequence[Any]:
    return obj["metadata"].get("name", ""), ",".join((obj.get("spec") or {}).get("cidrs") or ()), age(obj, now)


def _ip_address(obj: Obj, now: float) -> Sequence[Any]:
    parent, text = (obj.get("spec") or {}).get("parentRef"), NONE
    if parent:
        group = parent.get("group")
        text = f"{parent.get('resource', '')}{'.' + group if group else ''}".lower()
        text += (f"/{parent['namespace']}" if parent.get("namespace") else "") + f"/{parent.get('name', '')}"
    return obj["metadata"].get("name", ""), text


SERVICES = Columns(columns("Name, Type, Cluster-IP, External-IP, Port(s), Age, Selector+"), _service)
ENDPOINTS = Columns(columns("Name, Endpoints, Age"), _endpoints)
ENDPOINT_SLICES = Columns(columns("Name, AddressType, Ports, Endpoints, Age"), _endpoint_slice)
INGRESSES = Columns(columns("Name, Class, Hosts, Address, Ports, Age"), _ingress)
INGRESS_CLASSES = Columns(columns("Name, Controller, Parameters, Age"), _ingress_class)
NETWORK_POLICIES = Columns(columns("Name, Pod-Selector, Age"), _network_policy)
SERVICE_CIDRS = Columns(columns("Name, CIDRs, Age"), _service_cidr)
IP_ADDRESSES = Columns(columns("Name, ParentRef"), _ip_address)
