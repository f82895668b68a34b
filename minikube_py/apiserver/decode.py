"""From the bytes of a body to an object of the expected kind: parsing, kind and version checks, pruning, field validation.

What always holds for what comes out: apiVersion and kind are the expected ones, no unknown field and no null is left, values have the
types of the schema. Faults are BadRequest in upstream's words; unknown and duplicate fields are warnings or errors as the request asks.
"""

from __future__ import annotations

from typing import Any

from minikube_py.apiserver.negotiate import JSON, YAML, media_type
from minikube_py.meta.errors import BadRequest, UnsupportedMediaType
from minikube_py.resources.api import Obj
from minikube_py.schema import decode as bodies
from minikube_py.schema.definitions import Definitions, Schema
from minikube_py.schema.errors import SchemaError
from minikube_py.types.meta import ResourceRef

_SUMMARY = 30


def parse(body: bytes, content_type: str, kind: str) -> tuple[Obj, list[str]]:
    """The object in a body, and the paths of its duplicate fields. Raises BadRequest, UnsupportedMediaType."""
    media = media_type(content_type)
    try:
        if media == JSON:
            value, duplicates = bodies.parse_json(body)
        elif media == YAML:
            value, duplicates = bodies.parse_yaml(body)
        else:
            value, duplicates = _protobuf(body), []
    except SchemaError as error:
        raise _unrecognized(body, kind, f"couldn't get version/kind; json parse error: {error}") from error
    if not isinstance(value, dict):
        why = f"json: cannot unmarshal {_go_name(value)} into Go value of type struct {{ APIVersion string; Kind string }}"
        raise _unrecognized(body, kind, f"couldn't get version/kind; json parse error: {why}")
    return value, duplicates


def _protobuf(body: bytes) -> Obj:
    try:
        from minikube_py.schema import protobuf
    except ImportError:
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {JSON}, {YAML}"
        ) from None
    _, _, obj = protobuf.decode(body)
    return obj


def _go_name(value: Any) -> str:
    if value is None:
        return "null"
    return {bool: "bool", str: "string", list: "array"}.get(type(value), "number")


def _unrecognized(body: bytes, kind: str, why: str) -> BadRequest:
    if not body:
        summary = "<empty>"
    else:
        head = body[:_SUMMARY].decode("utf-8", "replace") if body.startswith(b"{") else body[:_SUMMARY].hex()
        summary = head + (" ..." if len(body) > _SUMMARY else "")
    return BadRequest(f"the object provided is unrecognized (must be of type {kind}): {why} ({summary})")


def check_kind(obj: Obj, ref: ResourceRef, definitions: Definitions) -> None:
    """Default apiVersion and kind to those of the endpoint. Raises BadRequest where the body names others."""
    kind, api_version = obj.get("kind"), obj.get("apiVersion")
    if kind == ref.kind and api_version == ref.api_version:
        return
    for field, value in (("kind", kind), ("apiVersion", api_version)):
        if value is not None and not isinstance(value, str):
            why = f"json: cannot unmarshal {_go_name(value)} into Go struct field .{field} of type string"
            raise BadRequest(f"the object provided is unrecognized (must be of type {ref.kind}): couldn't get version/kind; {why}")
    kind, api_version = kind or ref.kind, api_version or ref.api_version
    if kind != ref.kind:
        group, _, version = api_version.rpartition("/")
        if (group, version, kind) in definitions.kinds():
            why = f"converting ({version}.{kind}) to ({(ref.group or 'core').split('.')[0]}.{ref.kind}): unknown conversion"
        else:
            why = f'no kind "{kind}" is registered for version "{api_version}"'
        raise BadRequest(f'{kind} in version "{version}" cannot be handled as a {ref.kind}: {why}')
    if api_version != ref.api_version:
        raise BadRequest(f"the API version in the data ({api_version}) does not match the expected API version ({ref.api_version})")
    obj["kind"], obj["apiVersion"] = kind, api_version


def normalize(obj: Obj, schema: Schema, ref: ResourceRef) -> list[str]:
    """Bring an object into its kind's shape, in place; the unknown fields' paths come back. Raises BadRequest for a wrong type."""
    try:
        return schema.normalize(obj)
    except SchemaError as error:
        raise BadRequest(f'{ref.kind} in version "{ref.version}" cannot be handled as a {ref.kind}: {error}') from error


def strict_faults(unknown: list[str], duplicates: list[str]) -> list[str]:
    """Unknown and duplicate fields in upstream's words."""
    return [f'unknown field "{path}"' for path in unknown] + [f'duplicate field "{path}"' for path in duplicates]


def check_fields(faults: list[str], validation: str, ref: ResourceRef, warnings: list[str]) -> None:
    """Warn of faults, or raise BadRequest, as fieldValidation asks."""
    if not faults or validation == "Ignore":
        return
    if validation == "Strict":
        listed = ", ".join(faults)
        raise BadRequest(f'{ref.kind} in version "{ref.version}" cannot be handled as a {ref.kind}: strict decoding error: {listed}')
    warnings += faults


def decode(
    body: bytes, content_type: str, ref: ResourceRef, definitions: Definitions, schema: Schema, validation: str, warnings: list[str]
) -> Obj:
    """The whole way for an object that a client sends. Raises BadRequest, UnsupportedMediaType."""
    obj, duplicates = parse(body, content_type, ref.kind)
    check_kind(obj, ref, definitions)
    unknown = normalize(obj, schema, ref)
    if unknown or duplicates:
        check_fields(strict_faults(unknown, duplicates), validation, ref, warnings)
    return obj
