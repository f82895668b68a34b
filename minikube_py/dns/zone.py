"""The cluster's zone: which records each name has because of which Service. Pure.

A Service contributes records under names; several Services may contribute to one name (two Services in front of one pod: its PTR). The
names above a name exist too, without records, so that they answer "no such data" and not "no such name" (RFC 8020).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from minikube_py.types.network import Endpoint, EndpointPort, EndpointSlice, Service

DNS_SCHEMA_VERSION = "1.1.0"

_PTR_SUFFIXES = (".in-addr.arpa", ".ip6.arpa")


class Srv(NamedTuple):
    """The data of an SRV record."""

    port: int
    target: str
    weight: int


class Record(NamedTuple):
    """One record: its type by name (A, AAAA, SRV, PTR, CNAME, TXT) and its data. Names carry no final dot."""

    type: str
    data: str | Srv


class Answer(NamedTuple):
    """What the zone knows of a question: `exists` is false for NXDOMAIN; `extra` holds the addresses of SRV targets."""

    exists: bool
    records: tuple[Record, ...] = ()
    extra: tuple[tuple[str, Record], ...] = ()


_NONE = Answer(False)


class Zone:
    """All names of one cluster domain."""

    def __init__(self, domain: str) -> None:
        self.domain = domain.rstrip(".").lower()
        self._names: dict[str, dict[str, tuple[Record, ...]]] = {}
        self._owned: dict[str, tuple[str, ...]] = {}
        self._put(
            "", {f"dns-version.{self.domain}": [Record("TXT", DNS_SCHEMA_VERSION)], f"svc.{self.domain}": [], f"pod.{self.domain}": []}
        )

    def set_service(self, key: str, service: Service | None, slices: Iterable[EndpointSlice]) -> None:
        """Replace what a Service contributes; None removes it."""
        for name in self._owned.pop(key, ()):
            owners = self._names[name]
            owners.pop(key, None)
            if not owners:
                del self._names[name]
        if service is not None:
            self._put(key, service_names(service, slices, self.domain))

    def _put(self, owner: str, names: Mapping[str, list[Record]]) -> None:
        with_parents: dict[str, tuple[Record, ...]] = {name: tuple(records) for name, records in names.items()}
        for name in names:
            for parent in self._parents(name):
                with_parents.setdefault(parent, ())
        for name, records in with_parents.items():
            self._names.setdefault(name, {})[owner] = records
        self._owned[owner] = tuple(with_parents)

    def _parents(self, name: str) -> Iterator[str]:
        while name.endswith("." + self.domain):
            name = name.partition(".")[2]
            yield name

    def __contains__(self, name: str) -> bool:
        """Whether the zone, and not somebody else, answers for a (lower-case) name."""
        if name == self.domain or name.endswith("." + self.domain):
            return True
        return name.endswith(_PTR_SUFFIXES) and name in self._names

    def lookup(self, name: str, type_: str) -> Answer:
        """What a (lower-case) name of the zone has of a type ("ANY": of all types)."""
        owners = self._names.get(name)
        if owners is None:
            return self._pod(name, type_)
        records = tuple(dict.fromkeys(r for each in owners.values() for r in each if r.type in (type_, "CNAME") or type_ == "ANY"))
        targets = dict.fromkeys(r.data.target for r in records if isinstance(r.data, Srv))
        extra = tuple(
            (target, r) for target in targets for each in self._names.get(target, {}).values() for r in each if r.type in ("A", "AAAA")
        )
        return Answer(True, records, extra)

    def _pod(self, name: str, type_: str) -> Answer:
        """1-2-3-4.namespace.pod.domain: the address is in the name."""
        labels = name.removesuffix("." + self.domain).split(".")
        if len(labels) == 2 and labels[1] == "pod":
            return Answer(True)
        if len(labels) != 3 or labels[2] != "pod":
            return _NONE
        for text in (labels[0].replace("-", "."), labels[0].replace("-", ":")):
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                continue
            record = Record(_address_type(str(address)), str(address))
            return Answer(True, (record,) if type_ in (record.type, "ANY") else ())
        return _NONE


def service_names(service: Service, slices: Iterable[EndpointSlice], domain: str) -> dict[str, list[Record]]:
    """The names that a Service has, with their records."""
    meta, spec = service.metadata, service.spec
    base = f"{meta.name}.{meta.namespace}.svc.{domain}"
    if spec.type == "ExternalName":
        return {base: [Record("CNAME", spec.externalName.rstrip(".").lower())]}
    if spec.clusterIP == "None":
        return _headless(service, slices, base)
    ips = [ip for ip in (spec.clusterIPs or (spec.clusterIP,)) if ip]
    names: dict[str, list[Record]] = {base: [Record(_address_type(ip), ip) for ip in ips]} if ips else {}
    for port in spec.ports if ips else ():
        if port.name:
            names[f"_{port.name}._{port.protocol.lower()}.{base}"] = [Record("SRV", Srv(port.port, base, 100))]
    for ip in ips:
        names[ipaddress.ip_address(ip).reverse_pointer] = [Record("PTR", base)]
    return names


def _headless(service: Service, slices: Iterable[EndpointSlice], base: str) -> dict[str, list[Record]]:
    names: dict[str, list[Record]] = {base: []}
    services: dict[str, list[tuple[int, str]]] = {}
    for endpoint, ports in _serving(slices, service.spec.publishNotReadyAddresses):
        for ip in endpoint.addresses:
            label = endpoint.hostname or ip.replace(".", "-").replace(":", "-")
            name = f"{label}.{base}"
            record = Record(_address_type(ip), ip)
            for owner in (base, name):
                known = names.setdefault(owner, [])
                if record not in known:
                    known.append(record)
            names.setdefault(ipaddress.ip_address(ip).reverse_pointer, []).append(Record("PTR", name))
            for port in ports:
                if port.name and port.port:
                    services.setdefault(f"_{port.name}._{port.protocol.lower()}.{base}", []).append((port.port, name))
    for name, places in services.items():
        unique = tuple(dict.fromkeys(places))
        names[name] = [Record("SRV", Srv(port, target, max(1, 100 // len(unique)))) for port, target in unique]
    return names


def _serving(slices: Iterable[EndpointSlice], not_ready_too: bool) -> Iterator[tuple[Endpoint, tuple[EndpointPort, ...]]]:
    for each in slices:
        if each.addressType not in ("IPv4", "IPv6"):
            continue
        for endpoint in each.endpoints:
            if not_ready_too or endpoint.conditions.ready is not False:
                yield endpoint, each.ports


def _address_type(ip: str) -> str:
    return "AAAA" if ":" in ip else "A"
