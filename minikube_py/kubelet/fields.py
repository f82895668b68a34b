"""The downward API's values: fieldRef and resourceFieldRef of environment variables and of volume files. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from minikube_py.meta import quantity
from minikube_py.types.pod import Container, Pod, ResourceFieldSelector

_SHARED = ("cpu", "memory", "ephemeral-storage")
"""Of these a container without a limit may use whatever there is; huge pages it has only where it has a limit of them."""
_SUBSCRIPT = re.compile(r"(metadata\.(?:labels|annotations))\['(.*)'\]")


class FieldError(ValueError):
    """A field path or resource that the downward API does not have."""


class Addresses(NamedTuple):
    """What only the node knows of a pod: its own addresses and the node's."""

    pod_ips: Sequence[str] = ()
    host_ips: Sequence[str] = ()


def field_value(pod: Pod, path: str, addresses: Addresses) -> str:
    """The value of a fieldPath. Raises FieldError."""
    meta = pod.metadata
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript is not None:
        table = meta.labels if subscript.group(1) == "metadata.labels" else meta.annotations
        return table.get(subscript.group(2), "")
    match path:
        case "metadata.name":
            return meta.name
        case "metadata.namespace":
            return meta.namespace
        case "metadata.uid":
            return meta.uid
        case "metadata.labels":
            return format_map(meta.labels)
        case "metadata.annotations":
            return format_map(meta.annotations)
        case "spec.nodeName":
            return pod.spec.nodeName
        case "spec.serviceAccountName":
            return pod.spec.serviceAccountName
        case "status.hostIP":
            return addresses.host_ips[0] if addresses.host_ips else ""
        case "status.hostIPs":
            return ",".join(addresses.host_ips)
        case "status.podIP":
            return addresses.pod_ips[0] if addresses.pod_ips else ""
        case "status.podIPs":
            return ",".join(addresses.pod_ips)
    raise FieldError(f"unsupported fieldPath: {path}")


def format_map(table: Mapping[str, str]) -> str:
    """Labels or annotations as a file: one key="value" a line, sorted."""
    return "\n".join(f'{key}="{_escape(value)}"' for key, value in sorted(table.items()))


def _escape(text: str) -> str:
    out = []
    for char in text:
        match char:
            case "\\" | '"':
                out.append("\\" + char)
            case "\n":
                out.append("\\n")
            case "\t":
                out.append("\\t")
            case "\r":
                out.append("\\r")
            case _ if ord(char) < 0x20 or ord(char) == 0x7F:
                out.append(f"\\x{ord(char):02x}")
            case _:
                out.append(char)
    return "".join(out)


def resource_value(pod: Pod, container: Container, ref: ResourceFieldSelector, allocatable: Mapping[str, str]) -> str:
    """The value of a resourceFieldRef: rounded up in units of the divisor; a limit that is not set is what is `allocatable`."""
    if ref.containerName and ref.containerName != container.name:
        everybody = (*pod.spec.containers, *pod.spec.initContainers)
        found = next((c for c in everybody if c.name == ref.containerName), None)
        if found is None:
            raise FieldError(f"container {ref.containerName} not found")
        container = found
    kind, _, name = ref.resource.partition(".")
    if kind not in ("limits", "requests") or not name:
        raise FieldError(f"unsupported container resource : {ref.resource}")
    limits, requests = container.resources.limits, container.resources.requests
    value: str | int | float
    if kind == "limits":
        own = limits.get(name, "0")
        value = own if quantity.parse(own) or name not in _SHARED else allocatable.get(name, own)
    else:
        value = requests.get(name, limits.get(name, "0"))
    divisor = quantity.parse(ref.divisor)
    if name == "cpu":
        unit = divisor.milli() if divisor else 1000
        return str(-(-quantity.parse(value).milli() // unit))
    unit = divisor.value() if divisor else 1
    return str(-(-quantity.parse(value).value() // unit))


def allocatable_to(pod: Pod, node: Mapping[str, str]) -> Mapping[str, str]:
    """What the pod's containers can have of what the node has: the limits of the pod as a whole, where it has any."""
    whole = pod.spec.resources.limits if pod.spec.resources is not None else {}
    return {**node, **{name: str(whole[name]) for name in _SHARED if name in whole and quantity.parse(whole[name])}}
