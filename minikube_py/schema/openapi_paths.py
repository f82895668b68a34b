"""The paths of an OpenAPI document: per resource and verb the operation, with the x-kubernetes-action and -group-version-kind that
clients look for. Pure functions from verbs to values; the same operations are written as v3 or v2."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple


class Reference(NamedTuple):
    """A kind in a version."""

    group: str
    version: str
    kind: str


class Operation(NamedTuple):
    """A verb on a resource or subresource that answers with a kind."""

    verb: str
    plural: str
    namespaced: bool
    subresource: str
    kind: Reference


Node = dict[str, Any]
Named = Callable[[Reference], str | None]

_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
_STATUS = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
_PATCH = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
_MEDIA = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_STREAMS = ("exec", "attach", "portforward", "proxy")

_DESCRIPTIONS = {
    "pretty": ("string", "If 'true', then the output is pretty printed."),
    "dryRun": ("string", "When present, indicates that modifications should not be persisted: the only value is All."),
    "fieldManager": ("string", "The name of the actor that makes these changes."),
    "fieldValidation": ("string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
    "force": ("boolean", "Whether an apply takes fields that others own."),
    "labelSelector": ("string", "Restricts the objects by their labels."),
    "fieldSelector": ("string", "Restricts the objects by their fields."),
    "limit": ("integer", "The greatest number of objects in one answer."),
    "continue": ("string", "Where the answer before ended."),
    "resourceVersion": ("string", "Which versions may be answered."),
    "resourceVersionMatch": ("string", "How resourceVersion is applied to lists."),
    "timeoutSeconds": ("integer", "How long a list or watch may take."),
    "watch": ("boolean", "Watch for changes instead of listing."),
    "allowWatchBookmarks": ("boolean", "Whether a watch may send BOOKMARK events."),
    "sendInitialEvents": ("boolean", "Whether a watch begins with the objects that are there."),
    "gracePeriodSeconds": ("integer", "Seconds before the object is deleted; 0 is at once."),
    "propagationPolicy": ("string", "What happens to dependents: Orphan, Background or Foreground."),
    "orphanDependents": ("boolean", "Deprecated: use propagationPolicy."),
}
_WRITE = ("dryRun", "fieldManager", "fieldValidation")
_DELETE = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")
_SELECT = (
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
)
_LIST = ("allowWatchBookmarks", *_SELECT, "watch")


class _Verb(NamedTuple):
    method: str
    action: str
    name: str
    whole: bool
    """Whether it is about the collection."""
    parameters: tuple[str, ...]
    answers: tuple[int, ...]


_VERBS = {
    "get": _Verb("get", "get", "read", False, (), (200,)),
    "list": _Verb("get", "list", "list", True, _LIST, (200,)),
    "create": _Verb("post", "post", "create", True, _WRITE, (200, 201, 202)),
    "update": _Verb("put", "put", "replace", False, _WRITE, (200, 201)),
    "patch": _Verb("patch", "patch", "patch", False, (*_WRITE, "force"), (200, 201)),
    "delete": _Verb("delete", "delete", "delete", False, _DELETE, (200, 202)),
    "deletecollection": _Verb("delete", "deletecollection", "deleteCollection", True, (*_DELETE, *_SELECT), (200,)),
}


def operations(
    base: str, resource: Reference, wanted: Sequence[Operation], named: Named, v2: bool
) -> Iterator[tuple[str, Node, list[str]]]:
    """(path, part of its path item, definitions that it refers to) for every operation below `base` (apis/apps/v1)."""
    for operation in wanted:
        verb = _VERBS.get(operation.verb)
        if verb is None:
            continue  # watch is a list
        scopes = (True, False) if operation.namespaced and operation.verb == "list" else (operation.namespaced,)
        for namespaced in scopes:
            path = f"/{base}/" + ("namespaces/{namespace}/" if namespaced else "") + operation.plural
            parameters = [_path_parameter("namespace", v2)] if namespaced else []
            if operation.subresource or not verb.whole:
                path += "/{name}" + (f"/{operation.subresource}" if operation.subresource else "")
                parameters.insert(0, _path_parameter("name", v2))
            node, used = _operation(verb, operation, resource, named, v2, across=operation.namespaced and not namespaced)
            yield path, {verb.method: node, "parameters": [*parameters, _parameter("pretty", v2)]}, used


def _operation(verb: _Verb, operation: Operation, resource: Reference, named: Named, v2: bool, across: bool) -> tuple[Node, list[str]]:
    body, answer = _types(operation, named)
    group, version = resource.group, resource.version
    name = verb.name + _camel(group or "core") + _camel(version)
    name += ("Namespaced" if operation.namespaced and not across else "") + resource.kind + _camel(operation.subresource)
    node: Node = {
        "description": f"{verb.name} {operation.subresource + ' of ' if operation.subresource else ''}{resource.kind}",
        "operationId": name + ("ForAllNamespaces" if across else ""),
        "tags": [f"{(group or 'core').split('.')[0]}_{version}"],
        "x-kubernetes-action": "connect" if operation.subresource in _STREAMS else verb.action,
        "x-kubernetes-group-version-kind": operation.kind._asdict(),
    }
    parameters = [_parameter(parameter, v2) for parameter in verb.parameters]
    sent = _PATCHES if verb.method == "patch" else ("application/json", "application/yaml")
    refers = "#/definitions/" if v2 else "#/components/schemas/"
    schema: Node = {"$ref": refers + answer} if answer else {"type": "string"}
    if v2:
        node["produces"] = list(_MEDIA)
        node["schemes"] = ["https"]
        node["consumes"] = list(sent) if verb.method == "patch" else ["*/*"]
        if body:
            parameters.insert(0, {"name": "body", "in": "body", "required": True, "schema": {"$ref": refers + body}})
        node["responses"] = {str(code): {"description": _words(code), "schema": schema} for code in verb.answers}
    else:
        if body:
            content = {media: {"schema": {"$ref": refers + body}} for media in sent}
            node["requestBody"] = {"content": content, "required": verb.method != "delete"}
        content = {media: {"schema": schema} for media in _MEDIA}
        node["responses"] = {str(code): {"description": _words(code), "content": content} for code in verb.answers}
    node["responses"]["401"] = {"description": "Unauthorized"}
    if parameters:
        node["parameters"] = parameters
    return node, [part for part in (body, answer) if part]


def _types(operation: Operation, named: Named) -> tuple[str | None, str | None]:
    """The definitions of the body and of the answer."""
    kind = None if operation.subresource in _STREAMS or operation.subresource == "log" else named(operation.kind)
    if operation.verb in ("delete", "deletecollection"):
        return _DELETE_OPTIONS, _STATUS
    if operation.verb == "list":
        return None, named(operation.kind._replace(kind=f"{operation.kind.kind}List"))
    if operation.verb == "patch":
        return _PATCH, kind
    return (kind if operation.verb in ("create", "update") else None), kind


def _words(code: int) -> str:
    return {200: "OK", 201: "Created", 202: "Accepted"}[code]


def _parameter(name: str, v2: bool) -> Node:
    kind, words = _DESCRIPTIONS[name]
    node: Node = {"name": name, "in": "query", "description": words}
    shape = {"type": kind, "uniqueItems": True}
    return {**node, **shape} if v2 else {**node, "schema": shape}


def _path_parameter(name: str, v2: bool) -> Node:
    words = "name of the object" if name == "name" else "object name and auth scope, such as for teams and projects"
    node: Node = {"name": name, "in": "path", "required": True, "description": words}
    shape = {"type": "string", "uniqueItems": True}
    return {**node, **shape} if v2 else {**node, "schema": shape}


def _camel(text: str) -> str:
    """rbac.authorization.k8s.io → RbacAuthorization, v1beta1 → V1beta1"""
    text = text.removesuffix(".k8s.io")
    return "".join(part[:1].upper() + part[1:] for part in text.replace("/", ".").split("."))
