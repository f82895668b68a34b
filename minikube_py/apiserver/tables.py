"""Objects as rows for people: metav1.Table for lists, single objects and watch events (what kubectl get asks for).

Pure functions from stored bytes to answer bytes. What always holds: cells are made for -o wide (the client leaves out what it does not
show), and times in them are told as they are at the request, so that nothing of a row but its object's own bytes could be kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import orjson

from minikube_py.meta.errors import BadRequest
from minikube_py.resources.api import Obj, Resource

INCLUDES = ("Metadata", "Object", "None")
_VERSIONS = {"v1": b"meta.k8s.io/v1", "v1beta1": b"meta.k8s.io/v1beta1"}
_HEADS = {key: b'{"kind":"Table","apiVersion":"%b","metadata":' % version for key, version in _VERSIONS.items()}
_PARTIALS = {key: b'{"kind":"PartialObjectMetadata","apiVersion":"%b","metadata":' % version for key, version in _VERSIONS.items()}


class _Shell(msgspec.Struct, gc=False):
    """An object as far as a row needs its bytes."""

    metadata: msgspec.Raw = msgspec.Raw(b"{}")
    apiVersion: str = ""


_shell = msgspec.json.Decoder(_Shell)


class _Versioned(msgspec.Struct, gc=False):
    resourceVersion: str = ""


_versioned = msgspec.json.Decoder(_Versioned)


def table(
    resource: Resource, values: Sequence[bytes], include: str, now: float, meta: bytes = b"", *, headers: bool = True, version: str = "v1"
) -> bytes:
    """A Table of objects given as JSON bytes (of the stored version, or of another served one).

    `include` says what each row carries of its object (Metadata, Object, None; "" is Metadata); `now` is in seconds since the epoch; `meta`
    is the list's metadata as JSON, taken from the object where there is none; without `headers` the columns are not defined again;
    `version` is that of meta.k8s.io. Raises BadRequest for an unknown `include`.
    """
    if not meta:
        revision = _version(values[0]) if values else ""
        meta = orjson.dumps({"resourceVersion": revision}) if revision else b"{}"
    head = opening(resource, meta, include, headers=headers, version=version)
    return head + b",".join([row(resource, value, include, now, version) for value in values]) + CLOSING


CLOSING = b"]}"
"""What follows the last row."""


def opening(resource: Resource, meta: bytes, include: str, *, headers: bool = True, version: str = "v1") -> bytes:
    """What precedes the first row of a Table with this metadata. Raises BadRequest for an unknown `include`."""
    if include and include not in INCLUDES:
        raise BadRequest(f"includeObject: Invalid value: \"{include}\": must be 'Metadata', 'Object', 'None', or empty")
    return b"".join((_HEADS[version], meta, b',"columnDefinitions":', definitions(resource) if headers else b"null", b',"rows":['))


def event(resource: Resource, kind: str, value: bytes, include: str, now: float, *, headers: bool, version: str = "v1") -> bytes:
    """One watch event (ADDED, MODIFIED, DELETED, BOOKMARK) as a line; only the first of a watch has `headers`."""
    body = table(resource, (value,), include, now, headers=headers, version=version)
    return b'{"type":"%b","object":%b}\n' % (kind.encode(), body)


def definitions(resource: Resource) -> bytes:
    """The column definitions as JSON."""
    return orjson.dumps(
        [
            {"name": c.name, "type": c.type, "format": c.format, "description": c.description, "priority": c.priority}
            for c in resource.columns.definitions
        ]
    )


def partial(value: bytes, version: str = "v1") -> bytes:
    """An object's bytes as PartialObjectMetadata of a version of meta.k8s.io."""
    return _PARTIALS[version] + bytes(_shell.decode(value).metadata) + b"}"


def _version(value: bytes) -> str:
    return _versioned.decode(_shell.decode(value).metadata).resourceVersion


def row(resource: Resource, value: bytes, include: str, now: float, version: str = "v1") -> bytes:
    """One object as a row."""
    shell = _shell.decode(value)
    obj: Obj = orjson.loads(value)
    if shell.apiVersion != resource.ref.api_version:
        obj = _hub(resource, shell.apiVersion, obj)
    columns = resource.columns
    parts = [b'{"cells":', orjson.dumps(columns.cells(obj, now))]
    marks = columns.conditions(obj) if columns.conditions else ()
    if marks:
        parts += (b',"conditions":', orjson.dumps(marks))
    if include in ("", "Metadata"):
        parts += (b',"object":', _PARTIALS[version], bytes(shell.metadata), b"}}")
    else:
        parts += (b',"object":', value if include == "Object" else b"null", b"}")
    return b"".join(parts)


def _hub(resource: Resource, api_version: str, obj: Obj) -> Obj:
    """Cells are made from the stored version, whichever is shown."""
    for ref, converter in resource.converters.items():
        if ref.api_version == api_version:
            return converter.to_hub(obj)
    return obj
