"""What is served, told to clients: /api, /apis, /apis/<group>, /apis/<group>/<version>, and all of it at once (aggregated discovery).

Documents are pure functions of the resources, made when first asked for and kept as bytes. What always holds: groups come in upstream's
order of priority, a group's versions with the preferred one first, resources and verbs in alphabetical order, as kube-apiserver has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import orjson

from minikube_py.resources.api import Resource, Subresource
from minikube_py.types.meta import ResourceRef

_ORDER = (
    "apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch",
    "certificates.k8s.io", "networking.k8s.io", "policy", "rbac.authorization.k8s.io", "storage.k8s.io", "admissionregistration.k8s.io",
    "apiextensions.k8s.io", "scheduling.k8s.io", "coordination.k8s.io", "node.k8s.io", "discovery.k8s.io", "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
)  # fmt: skip
"""Groups by upstream's priority, greatest first; a group that is not here follows, by name."""

JSON = "application/json"
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
_AGGREGATED_VERSIONS = ("v2", "v2beta1")


class Document(NamedTuple):
    """One discovery answer. `etag` is quoted, empty for documents that have none."""

    body: bytes
    content_type: str = JSON
    etag: str = ""

    @property
    def headers(self) -> Mapping[str, str]:
        """What goes with the body: clients may keep it and ask again with If-None-Match."""
        return {"ETag": self.etag, "Cache-Control": "public", "Vary": "Accept"} if self.etag else {"Vary": "Accept"}


class Served(NamedTuple):
    """A resource in one of the versions that it is served in."""

    ref: ResourceRef
    resource: Resource


class Discovery:
    """The discovery documents of a set of resources; a new one is made when the set changes."""

    def __init__(self, resources: Iterable[Resource], server_address: str = "") -> None:
        self._served = sorted(served_versions(resources), key=lambda s: s.ref.plural)
        self._address = server_address
        self._documents: dict[tuple[str, str], Document | None] = {}

    def document(self, path: str, accept: str = "") -> Document | None:
        """The document of a path (/api, /apis/apps/v1, …; a slash at the end is as none), None where nothing is."""
        path = path.rstrip("/")
        version = aggregated_version(accept) if path in ("/api", "/apis") else ""
        key = (path, version)
        if key not in self._documents:
            if len(self._documents) > 256:
                self._documents.clear()
            self._documents[key] = self._aggregated(path, version) if version else self._plain(path)
        return self._documents[key]

    def _plain(self, path: str) -> Document | None:
        parts = path.split("/")[1:]
        value: Any = None
        if parts == ["api"]:
            value = self._api()
        elif parts == ["apis"]:
            groups = [_group(name, versions) for name, versions in self.groups.items() if name]
            value = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        elif len(parts) == 2 and parts[0] == "apis" and parts[1] in self.groups:
            value = {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1], self.groups[parts[1]])}
        elif (len(parts) == 2 and parts[0] == "api") or (len(parts) == 3 and parts[0] == "apis"):
            group, version = ("", parts[1]) if parts[0] == "api" else (parts[1], parts[2])
            if version in self.groups.get(group, ()):
                value = self._resource_list(group, version)
        return None if value is None else Document(orjson.dumps(value))

    @cached_property
    def groups(self) -> Mapping[str, Sequence[str]]:
        """Versions by group, "" first, then in order of priority; the preferred version first."""
        found: dict[str, set[str]] = {}
        for ref, _ in self._served:
            found.setdefault(ref.group, set()).add(ref.version)
        rank = {group: i for i, group in enumerate(("", *_ORDER))}
        return {g: sorted(found[g], key=version_priority) for g in sorted(found, key=lambda g: (rank.get(g, len(rank)), g))}

    def _api(self) -> dict[str, Any]:
        addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._address}]
        return {"kind": "APIVersions", "versions": list(self.groups.get("", ())), "serverAddressByClientCIDRs": addresses}

    def _resource_list(self, group: str, version: str) -> dict[str, Any]:
        listed: list[dict[str, Any]] = []
        for ref, resource in self._in(group, version):
            listed.append(_api_resource(ref, resource))
            listed.extend(_api_subresource(ref, name, sub) for name, sub in resource.subresources.items())
        listed.sort(key=lambda r: r["name"])
        head = {"kind": "APIResourceList"} | (
            {"apiVersion": "v1", "groupVersion": f"{group}/{version}"} if group else {"groupVersion": version}
        )
        return {**head, "resources": listed}

    def _in(self, group: str, version: str) -> Iterable[Served]:
        return (s for s in self._served if s.ref.group == group and s.ref.version == version)

    def _aggregated(self, path: str, discovery_version: str) -> Document:
        groups = [g for g in self.groups if bool(g) == (path == "/apis")]
        items = []
        for group in groups:
            versions = [
                {"version": v, "resources": [_discovered(*s) for s in self._in(group, v)], "freshness": "Current"}
                for v in self.groups[group]
            ]
            items.append({"metadata": {**({"name": group} if group else {}), "creationTimestamp": None}, "versions": versions})
        kind = {"kind": "APIGroupDiscoveryList", "apiVersion": f"apidiscovery.k8s.io/{discovery_version}"}
        body = orjson.dumps({**kind, "metadata": {}, "items": items})
        etag = '"' + hashlib.sha512(body).hexdigest().upper() + '"'
        return Document(body, _AGGREGATED.format(discovery_version), etag)


def served_versions(resources: Iterable[Resource]) -> Iterable[Served]:
    """Every resource under each group version that it is served in, the stored one and those that are converted."""
    for resource in resources:
        yield Served(resource.ref, resource)
        for ref in resource.converters:
            yield Served(ref, resource)


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as upstream prefers them: v2, v1, v2beta1, v1beta1, v1alpha1, anything else by name."""
    import re

    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if not match:
        return 3, 0, 0, version
    stage = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return stage, -int(match[1]), -int(match[3] or 0), ""


def aggregated_version(accept: str) -> str:
    """The aggregated form that an Accept header asks for first ("v2", "v2beta1"), "" where it wants the plain one."""
    for clause in accept.split(","):
        media, *parameters = (part.strip() for part in clause.split(";"))
        named = dict(p.partition("=")[::2] for p in parameters)
        if media in (JSON, "application/yaml", "*/*") and "as" not in named:
            return ""
        if media == JSON and named.get("as") == "APIGroupDiscoveryList" and named.get("g") == "apidiscovery.k8s.io":
            version = named.get("v", "")
            if version in _AGGREGATED_VERSIONS:
                return version
    return ""


def _group(name: str, versions: Sequence[str]) -> dict[str, Any]:
    listed = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _api_resource(ref: ResourceRef, resource: Resource) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": ref.plural,
        "singularName": resource.singular,
        "namespaced": ref.namespaced,
        "kind": ref.kind,
        "verbs": sorted(resource.verbs),
    }
    if resource.short_names:
        found["shortNames"] = list(resource.short_names)
    if resource.categories:
        found["categories"] = list(resource.categories)
    return found


def _api_subresource(ref: ResourceRef, name: str, sub: Subresource) -> dict[str, Any]:
    named = {"name": f"{ref.plural}/{name}", "singularName": "", "namespaced": ref.namespaced}
    version = {"group": sub.group, "version": sub.version} if sub.version else {}
    return {**named, **version, "kind": sub.kind, "verbs": sorted(sub.verbs)}


def _discovered(ref: ResourceRef, resource: Resource) -> dict[str, Any]:
    found: dict[str, Any] = {
        "resource": ref.plural,
        "responseKind": {"group": ref.group, "version": ref.version, "kind": ref.kind},
        "scope": "Namespaced" if ref.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": sorted(resource.verbs),
    }
    if resource.short_names:
        found["shortNames"] = list(resource.short_names)
    if resource.categories:
        found["categories"] = list(resource.categories)
    if resource.subresources:
        found["subresources"] = [_discovered_subresource(ref, name, sub) for name, sub in sorted(resource.subresources.items())]
    return found


def _discovered_subresource(ref: ResourceRef, name: str, sub: Subresource) -> dict[str, Any]:
    group, version = (sub.group, sub.version) if sub.version else (ref.group, ref.version)
    return {
        "subresource": name,
        "responseKind": {"group": group, "version": version, "kind": sub.kind},
        "verbs": sorted(sub.verbs),
    }
