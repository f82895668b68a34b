"""Extracts Kubernetes v1.36's definitions of every built-in type from the kubernetes-validate package into minikube_py/schema/data/.

definitions.json  what decoding, patches and managedFields need: fields, their types, list and map types, merge keys. Read at every start,
                  so it holds no prose, and each definition is one JSON value that is only parsed when its type is first used.
openapi.json.z    the definitions as OpenAPI v3 has them, descriptions included, zlib-compressed. Read when a client asks for OpenAPI.

kubernetes-validate rewrites what it packages for a JSON Schema validator: a field that is not required may be null, Quantity and
IntOrString become a oneOf, apiVersion and kind an enum. That is undone here.

What the definitions do not say is which fields Go leaves out when they are zero (omitempty, and no pointer): protobuf_fields.txt does.
"""

from __future__ import annotations

import importlib.util
import json
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

SOURCE = "kubernetes-json-schema/v1.36.0-local/_definitions.json"
Node = dict[str, Any]

_SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "intOrString",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "microTime",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "any",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "schemaOrArray",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "schemaOrBool",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "schemaOrStringArray",
}
_SCALAR = {
    ("string", ""): "string",
    ("string", "byte"): "bytes",
    ("boolean", ""): "boolean",
    ("integer", "int32"): "int32",
    ("integer", "int64"): "int64",
    ("integer", ""): "int64",
    ("number", "double"): "double",
    ("number", ""): "double",
}
_ZEROLESS = ("string", "bytes", "boolean", "int32", "int64", "double")
"""The scalars whose zero value omitempty leaves out."""
_OPENAPI_SPECIAL: dict[str, Node] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {
        "description": "Quantity is a fixed-point representation of a number: 0.5, 500m, 128Mi, 1e3.",
        "oneOf": [{"type": "string"}, {"type": "number"}],
    },
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        "description": "IntOrString is a type that can hold an int32 or a string.",
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    },
}


def build(root: Path) -> None:
    """Write both files, unless they are newer than this step and the package's file."""
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        raise SystemExit("the build needs the package kubernetes-validate")
    source = Path(spec.origin).parent / SOURCE
    target = root / "minikube_py" / "schema" / "data"
    structure, openapi = target / "definitions.json", target / "openapi.json.z"
    table = root / "minikube_py" / "schema" / "protobuf_fields.txt"
    newest = max(path.stat().st_mtime for path in (source, table, Path(__file__)))
    if all(path.exists() and path.stat().st_mtime >= newest for path in (structure, openapi)):
        return
    definitions: dict[str, Node] = json.loads(source.read_bytes())["$defs"]
    target.mkdir(parents=True, exist_ok=True)
    omitted = _omitted(table.read_text())
    compact = {name: _definition(node, omitted.get(name, ())) for name, node in sorted(definitions.items()) if name not in _SPECIAL}
    structure.write_text(json.dumps(compact, separators=(",", ":"), sort_keys=True))
    restored = {name: _openapi(name, node) for name, node in sorted(definitions.items())}
    openapi.write_bytes(zlib.compress(json.dumps(restored, separators=(",", ":"), sort_keys=True).encode(), 9))


def _omitted(table: str) -> dict[str, tuple[str, ...]]:
    """The fields that are left out when they are zero, by definition; those of an inlined message count as the definition's own."""
    written = {name: fields for name, *fields in (line.split(" ") for line in table.splitlines() if not line.startswith("#"))}

    def of(name: str) -> Iterator[str]:
        for field in (entry.rpartition("=")[0] for entry in written.get(name, ())):
            if field.startswith("@"):
                yield from of(field[1:])
            elif not field.endswith("*"):
                yield field

    return {name: tuple(of(name)) for name in written}


def _definition(node: Node, omitted: Collection[str]) -> Node:
    fields = {name: _field(field) for name, field in node.get("properties", {}).items()}
    out: Node = {"fields": fields}
    if zeroless := sorted(name for name in omitted if fields.get(name) in _ZEROLESS):
        out["zeroless"] = zeroless
    if kinds := node.get("x-kubernetes-group-version-kind"):
        out["kinds"] = [[k["group"], k["version"], k["kind"]] for k in kinds]
    if required := node.get("required"):
        out["required"] = required
    if map_type := node.get("x-kubernetes-map-type"):
        out["mapType"] = map_type
    return out


def _field(node: Node) -> Any:
    """A scalar or a plain reference is a string ("int32", "#<definition>"); everything else an object with "type"."""
    extras = {
        short: node[long]
        for short, long in (
            ("listType", "x-kubernetes-list-type"),
            ("listMapKeys", "x-kubernetes-list-map-keys"),
            ("mapType", "x-kubernetes-map-type"),
            ("mergeKey", "x-kubernetes-patch-merge-key"),
            ("strategy", "x-kubernetes-patch-strategy"),
        )
        if long in node
    }
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        type_: Any = _SPECIAL.get(name) or "#" + name
    else:
        kind = _plain_type(node)
        if kind == "array":
            return {"type": "list", "items": _field(node["items"]), **extras}
        if kind == "object":
            if "additionalProperties" not in node:
                raise SystemExit(f"an object without properties: {node}")
            return {"type": "map", "items": _field(node["additionalProperties"]), **extras}
        type_ = _SCALAR[kind, node.get("format", "")]
    return {"type": type_, **extras} if extras else type_


def _plain_type(node: Node) -> str:
    kind = node["type"]
    return str(kind if isinstance(kind, str) else next(k for k in kind if k != "null"))


def _openapi(name: str, node: Node) -> Node:
    """A definition or field as OpenAPI v3 has it: a reference beside anything else stands in an allOf."""
    if name in _OPENAPI_SPECIAL:
        return _OPENAPI_SPECIAL[name]
    out: Node = {}
    for key, value in node.items():
        if key == "type":
            out[key] = _plain_type(node)
        elif key == "properties":
            out[key] = {n: _openapi("", v) for n, v in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            out[key] = _openapi("", value)
        elif key == "$ref":
            reference = {"$ref": "#/components/schemas/" + value.rpartition("/")[2]}
            if len(node) == 1:
                return reference
            out["allOf"] = [reference]
        elif key != "enum":
            out[key] = value
    return out
