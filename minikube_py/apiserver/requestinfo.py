"""What a request is about: the API verb, the resource and the object that its method and path name.

Paths are read as upstream reads them (a resource path is /api/VERSION/… or /apis/GROUP/VERSION/…; anything else is a non-resource path
whose verb is the HTTP method in lower case). Nothing here knows which resources exist; that is the server's lookup.
"""

from __future__ import annotations

from typing import NamedTuple

from minikube_py.meta.errors import BadRequest

NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class RequestInfo(NamedTuple):
    """`resource` is empty for a non-resource path. `rest` holds what follows the subresource (the path behind a proxy)."""

    verb: str
    path: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    rest: tuple[str, ...] = ()


def parse(method: str, path: str, watch: str | None = None) -> RequestInfo:
    """The request info of a method and a decoded path; `watch` is that query parameter, None where it is not given.

    Raises BadRequest for a watch path that names nothing to watch.
    """
    parts = path.strip("/").split("/")
    if parts[0] == "api":
        if len(parts) < 3:
            return RequestInfo(method.lower(), path)
        group, version, parts = "", parts[1], parts[2:]
    elif parts[0] == "apis":
        if len(parts) < 4:
            return RequestInfo(method.lower(), path)
        group, version, parts = parts[1], parts[2], parts[3:]
    else:
        return RequestInfo(method.lower(), path)

    if parts[0] in ("watch", "proxy"):
        if len(parts) < 2:
            raise BadRequest(f"unable to determine kind and namespace from url, {path}")
        verb, parts = parts[0], parts[1:]
    else:
        verb = _VERBS.get(method, "")

    namespace = ""
    count = len(parts)
    if parts[0] == "namespaces" and count > 1:
        namespace = parts[1]
        if count > 2 and parts[2] not in NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
            count -= 2

    name = parts[1] if count > 1 else ""
    subresource = parts[2] if count > 2 and verb != "proxy" else ""
    if not name:
        if verb == "get":
            verb = "list" if watch is None or watch.lower() in ("false", "0") else "watch"
        elif verb == "delete":
            verb = "deletecollection"
    return RequestInfo(verb, path, group, version, parts[0], subresource, namespace, name, tuple(parts[3:]) if count > 3 else ())
