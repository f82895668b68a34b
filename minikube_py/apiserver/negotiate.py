"""Content negotiation: which form an answer takes, which form a body has, and the bodies' decoding into plain values.

Answers are JSON or YAML; an object may be asked for as a Table or as its metadata only. Bodies are JSON, YAML or Kubernetes protobuf.
Clients that ask for protobuf answers name JSON beside it and get that.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from minikube_py.meta.errors import NotAcceptable, UnsupportedMediaType

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
BODY_TYPES = (JSON, YAML, PROTOBUF)
ANSWER_TYPES = (JSON, YAML)
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH)

TABLE = "Table"
PARTIAL = "PartialObjectMetadata"
PARTIAL_LIST = "PartialObjectMetadataList"
_TRANSFORMS = frozenset({TABLE, PARTIAL, PARTIAL_LIST})


class Output(NamedTuple):
    """How to answer: the media type, and the transformation ("" for the object itself) with its version of meta.k8s.io."""

    media: str = JSON
    transform: str = ""
    version: str = "v1"


PLAIN = Output()


@lru_cache(maxsize=256)
def negotiate(accept: str, *, tables: bool = True) -> Output:
    """The form that an Accept header asks for; `tables`: whether the endpoint can answer with a Table.

    Raises NotAcceptable where nothing that it names can be served.
    """
    if not accept or accept in (JSON, "*/*"):
        return PLAIN
    clauses = []
    for order, clause in enumerate(accept.split(",")):
        media, *parameters = (part.strip() for part in clause.split(";"))
        named = dict(p.partition("=")[::2] for p in parameters)
        try:
            quality = float(named.pop("q", "1"))
        except ValueError:
            quality = 1.0
        clauses.append((-quality, order, media.lower(), named))
    for _, _, media, named in sorted(clauses, key=lambda c: c[:2]):
        served = {JSON: JSON, YAML: YAML, "application/*": JSON, "*/*": JSON}.get(media)
        if served is None:
            continue
        transform = named.get("as", "")
        if not transform:
            return Output(served)
        if transform == TABLE and not tables:
            continue
        version = named.get("v", "v1")
        if transform in _TRANSFORMS and named.get("g", "meta.k8s.io") == "meta.k8s.io" and version in ("v1", "v1beta1"):
            return Output(served, transform, version)
    raise NotAcceptable(f"only the following media types are accepted: {', '.join(ANSWER_TYPES)}")


def media_type(content_type: str, supported: tuple[str, ...] = BODY_TYPES, default: str = JSON) -> str:
    """The media type of a body without its parameters. Raises UnsupportedMediaType, in upstream's words."""
    if not content_type:
        if default:
            return default
    elif content_type in supported:
        return content_type
    else:
        media = content_type.partition(";")[0].strip().lower()
        if media in supported:
            return media
    raise UnsupportedMediaType(f"the body of the request was in an unknown format - accepted media types include: {', '.join(supported)}")
