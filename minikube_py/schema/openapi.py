"""OpenAPI: one v3 document per group version, an index of them, and the v2 document of everything, for the resources that are served.

kubectl explain reads the v3 schemas; kubectl apply and create ask the v3 paths which query parameters and patch types a kind's PATCH
takes, to leave validation and merging to the server. The schemas are stored as v3 text, so a document is made by joining slices of it:
nothing is parsed. Documents are made when they are asked for and kept compressed; the text itself is let go. Making one takes
milliseconds (v2 about a tenth of a second, most of it in zlib, which lets other threads run): call from a thread.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import orjson

from minikube_py.schema import openapi_wire
from minikube_py.schema.definitions import DATA, Definitions, load
from minikube_py.schema.openapi_paths import Operation, Reference, operations

_REFERENCE = re.compile(rb'"#/components/schemas/([^"]+)"')
_WRAPPED = re.compile(rb'"allOf":\[\{"\$ref":"#/components/schemas/([^"]+)"\}\]')
_V2_SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": b'"type":"string"',
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": b'"format":"int-or-string","type":"string"',
}
_ONE_OF = re.compile(rb'("format":"int-or-string",)?"oneOf":\[[^\]]*\]')


class SubresourceLike(Protocol):
    """A subresource as discovery shows it; group and version are empty where they are the resource's."""

    @property
    def kind(self) -> str: ...
    @property
    def verbs(self) -> Sequence[str]: ...
    @property
    def group(self) -> str: ...
    @property
    def version(self) -> str: ...


class RefLike(Protocol):
    """How a resource is named in a version."""

    @property
    def group(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def plural(self) -> str: ...
    @property
    def namespaced(self) -> bool: ...


class ResourceLike(Protocol):
    """A served resource: `ref` is its stored version, `converters` has the further ones."""

    @property
    def ref(self) -> RefLike: ...
    @property
    def verbs(self) -> Sequence[str]: ...
    @property
    def subresources(self) -> Mapping[str, SubresourceLike]: ...
    @property
    def converters(self) -> Mapping[Any, Any]: ...


class Document(NamedTuple):
    """A document, compressed with gzip; `etag` names its content."""

    compressed: bytes
    etag: str

    def plain(self) -> bytes:
        """The document itself."""
        return gzip.decompress(self.compressed)


class OpenAPI:
    """The documents for a set of resources. Make a new one when the set changes."""

    def __init__(self, resources: Iterable[ResourceLike], version: str, definitions: Definitions | None = None) -> None:
        self._definitions = definitions or load()
        self._version = version
        self._served: dict[tuple[str, str], list[tuple[RefLike, ResourceLike]]] = {}
        for resource in resources:
            for ref in (resource.ref, *resource.converters):
                self._served.setdefault((ref.group, ref.version), []).append((ref, resource))
        self._documents: dict[tuple[str, str] | None, Document] = {}
        self._wire: Document | None = None

    def index(self) -> bytes:
        """/openapi/v3: where the document of each group version is."""
        paths = {}
        for group, version in sorted(self._served):
            path = _path(group, version)
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={self.hash(group, version)}"}
        return orjson.dumps({"paths": paths})

    def hash(self, group: str, version: str) -> str:
        """What a group version's document is known by: it changes when its content does. Raises KeyError for one that is not served."""
        parts = [self._version, group, version]
        for ref, resource in self._served[group, version]:
            names = sorted(f"{name}:{sub.kind}:{','.join(sub.verbs)}" for name, sub in resource.subresources.items())
            parts += [ref.plural, ref.kind, str(ref.namespaced), *resource.verbs, *names]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest().upper()

    def document(self, group: str, version: str) -> Document:
        """/openapi/v3/api/<version> and /openapi/v3/apis/<group>/<version>. Raises KeyError for a group version that is not served."""
        made = self._documents.get((group, version))
        if made is None:
            etag = self.hash(group, version)
            schemas = _stored()
            paths, roots = self._paths(group, version)
            parts = _closure(schemas, [*roots, *(self._definitions.definition(*gvk) for gvk in self._kinds(group, version))])
            body = b'{"openapi":"3.0.0","info":{"title":"Kubernetes","version":%s},"paths":%s,"components":{"schemas":{%s},%s}}' % (
                orjson.dumps(self._version),
                orjson.dumps(paths),
                b",".join(orjson.dumps(name) + b":" + bytes(schemas[name]) for name in sorted(parts)),
                b'"securitySchemes":{"BearerToken":{"type":"apiKey","name":"authorization","in":"header",'
                b'"description":"Bearer Token authentication"}}',
            )
            made = self._documents[group, version] = Document(gzip.compress(body, 6, mtime=0), etag)
        return made

    def document_v2(self) -> Document:
        """/openapi/v2: everything in one."""
        made = self._documents.get(None)
        if made is None:
            schemas = _stored()
            paths: dict[str, Any] = {}
            roots: list[str] = []
            for group, version in sorted(self._served):
                some, more = self._paths(group, version, v2=True)
                paths.update(some)
                roots += more + [self._definitions.definition(*gvk) for gvk in self._kinds(group, version)]
            parts = _closure(schemas, roots)
            body = b'{"swagger":"2.0","info":{"title":"Kubernetes","version":%s},"paths":%s,"definitions":{%s},%s}' % (
                orjson.dumps(self._version),
                orjson.dumps(paths),
                b",".join(orjson.dumps(name) + b":" + _v2(name, bytes(schemas[name])) for name in sorted(parts)),
                b'"securityDefinitions":{"BearerToken":{"type":"apiKey","name":"authorization","in":"header",'
                b'"description":"Bearer Token authentication"}},"security":[{"BearerToken":[]}]',
            )
            made = self._documents[None] = Document(gzip.compress(body, 6, mtime=0), hashlib.sha256(body).hexdigest().upper())
        return made

    def document_v2_protobuf(self) -> Document:
        """The same as protobuf. Takes some tenths of a second of Python the first time: call from a thread."""
        if self._wire is None:
            made = self.document_v2()
            body = openapi_wire.encode(orjson.loads(made.plain()))
            self._wire = Document(gzip.compress(body, 6, mtime=0), hashlib.sha256(body).hexdigest().upper())
        return self._wire

    def _kinds(self, group: str, version: str) -> list[tuple[str, str, str]]:
        """The kinds of a group version that the definitions know, lists among them."""
        kinds = {(group, version, kind) for ref, _ in self._served[group, version] for kind in (ref.kind, f"{ref.kind}List")}
        known = self._definitions.kinds()
        return sorted(kind for kind in kinds if kind in known)

    def _paths(self, group: str, version: str, v2: bool = False) -> tuple[dict[str, Any], list[str]]:
        paths: dict[str, Any] = {}
        roots: list[str] = []
        for ref, resource in self._served[group, version]:
            kind = Reference(ref.group, ref.version, ref.kind)
            wanted = [Operation(f"{verb}", ref.plural, ref.namespaced, "", kind) for verb in resource.verbs]
            for name, sub in resource.subresources.items():
                its = Reference(sub.group or (ref.group if not sub.version else ""), sub.version or ref.version, sub.kind)
                wanted += [Operation(verb, ref.plural, ref.namespaced, name, its) for verb in sub.verbs]
            for path, item, used in operations(_path(group, version), kind, wanted, self._name, v2):
                paths.setdefault(path, {}).update(item)
                roots += used
        return paths, roots

    def _name(self, reference: Reference) -> str | None:
        try:
            return self._definitions.definition(*reference)
        except KeyError:
            return None


def _path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _stored() -> dict[str, msgspec.Raw]:
    """The schemas by name, each as unparsed JSON."""
    text = zlib.decompress((DATA / "openapi.json.z").read_bytes())
    return msgspec.json.decode(text, type=dict[str, msgspec.Raw])


def _closure(schemas: Mapping[str, msgspec.Raw], roots: Iterable[str]) -> set[str]:
    """The schemas that these ones refer to, themselves included."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found and name in schemas:
            found.add(name)
            waiting += {match.decode() for match in _REFERENCE.findall(bytes(schemas[name]))}
    return found


def _v2(name: str, schema: bytes) -> bytes:
    """A schema as v2 has it: no allOf around references, no oneOf."""
    if name in _V2_SPECIAL:
        return _ONE_OF.sub(_V2_SPECIAL[name], schema)
    return _WRAPPED.sub(rb'"$ref":"#/definitions/\1"', schema).replace(b"#/components/schemas/", b"#/definitions/")
