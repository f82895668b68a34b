"""Rules for metadata.name of the kinds that want something else than a DNS subdomain: each gives the first fault in words, or None."""

from __future__ import annotations

import ipaddress

from minikube_py.meta import names

IP_FAULT = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def dns_label(name: str) -> str | None:
    """RFC 1123 label: namespaces and services."""
    return _first(names.dns1123_label(name))


def path_segment(name: str) -> str | None:
    """Whatever can stand between two slashes of a URL: RBAC's kinds."""
    return _first(names.path_segment(name))


def canonical_ip(name: str) -> str | None:
    """An IP address in its one canonical form: IPAddress objects are named by their address."""
    address = parse_ip(name)
    if address is None:
        return IP_FAULT
    return None if str(address) == name else f'must be in canonical form ("{address}")'


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a text is, if it is one; a zone is not accepted."""
    try:
        return ipaddress.ip_address(text) if "%" not in text else None
    except ValueError:
        return None


def _first(faults: list[str]) -> str | None:
    return faults[0] if faults else None
