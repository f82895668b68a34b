"""Which resources the server has, asked of the server itself: what the namespace and garbage collectors go by."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from minikube_py.client import Client
from minikube_py.types.meta import ResourceRef


class Served(NamedTuple):
    """One resource in its preferred version."""

    ref: ResourceRef
    verbs: frozenset[str]


class _APIResource(msgspec.Struct):
    name: str
    kind: str
    namespaced: bool = False
    verbs: tuple[str, ...] = ()


class _APIResourceList(msgspec.Struct):
    resources: tuple[_APIResource, ...] = ()


class _Version(msgspec.Struct):
    groupVersion: str
    version: str


class _Group(msgspec.Struct):
    name: str
    versions: tuple[_Version, ...] = ()
    preferredVersion: _Version | None = None


class _GroupList(msgspec.Struct):
    groups: tuple[_Group, ...] = ()


_resources = msgspec.json.Decoder(_APIResourceList)
_groups = msgspec.json.Decoder(_GroupList)


async def discover(client: Client) -> tuple[Served, ...]:
    """Every resource (no subresources), each once, in its group's preferred version or the first that has it.

    Raises StatusError and TransportError: half a discovery must never pass for the whole.
    """
    found = [*await _of(client, "/api/v1", "", "v1")]
    for group in _groups.decode(await client.request("GET", "/apis")).groups:
        seen: set[str] = set()
        versions = sorted(group.versions, key=lambda v: group.preferredVersion is None or v.version != group.preferredVersion.version)
        for version in versions:
            for served in await _of(client, f"/apis/{version.groupVersion}", group.name, version.version):
                if served.ref.plural not in seen:
                    seen.add(served.ref.plural)
                    found.append(served)
    return tuple(found)


async def _of(client: Client, path: str, group: str, version: str) -> list[Served]:
    # an in-process answer may come without a pause: two dozen in a row would hold the loop
    await asyncio.sleep(0)
    listed = _resources.decode(await client.request("GET", path)).resources
    return [Served(ResourceRef(group, version, r.name, r.kind, r.namespaced), frozenset(r.verbs)) for r in listed if "/" not in r.name]
