"""ControllerRevisions: the templates that a daemon set or a stateful set has had, numbered, so that each can be brought back.

Revisions as values come first: which one is the present template's, which are past keeping. What writes them comes last. A revision's data
is the strategic merge patch that brings its template back, as upstream stores it; equal templates have one revision, renumbered when it is
taken up again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import orjson

from minikube_py.client import Client
from minikube_py.controllers import rollout
from minikube_py.controllers.base import Fresh, change, controller_uid
from minikube_py.controllers.pods import HASH_LABEL
from minikube_py.meta.errors import AlreadyExists, NotFound
from minikube_py.types.meta import Object, owner_reference
from minikube_py.types.workload import ControllerRevision, template_labels

NAMED_HASH_LABEL = "controller.kubernetes.io/hash"
"""On a stateful set's revisions: their hash."""


class Present(NamedTuple):
    """Where a set's present template stands in its history."""

    equal: tuple[ControllerRevision, ...]
    """The revisions that hold the template, the newest last."""
    number: int
    """The number that the template's revision should have."""


def ordered(revisions: Iterable[ControllerRevision]) -> list[ControllerRevision]:
    """Revisions by number; those of the same number by age and name."""
    return sorted(revisions, key=lambda r: (r.revision, r.metadata.creationTimestamp or "", r.metadata.name))


def template_of(revision: ControllerRevision) -> msgspec.Raw:
    """The template that a revision holds."""
    return msgspec.Raw(_template_in(bytes(revision.data)))


def _template_in(data: bytes) -> bytes:
    parsed = msgspec.json.decode(data)
    template = dict(((parsed or {}).get("spec") or {}).get("template") or {})
    template.pop("$patch", None)
    return msgspec.json.encode(template)


@lru_cache(maxsize=128)
def _digest(template: bytes) -> bytes:
    """Equal templates have equal digests. Asked at every look, of templates that hardly ever change."""
    form = orjson.dumps(rollout.canonical_template(msgspec.Raw(template)), option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2s(form, digest_size=16).digest()


@lru_cache(maxsize=128)
def _digest_in(data: bytes) -> bytes:
    return _digest(_template_in(data))


def holds(revision: ControllerRevision, template: msgspec.Raw) -> bool:
    """Whether a revision is a template's."""
    return _digest_in(bytes(revision.data)) == _digest(bytes(template))


def present(template: msgspec.Raw, revisions: Sequence[ControllerRevision]) -> Present:
    """Find the revisions of a template. An older one that is taken up again moves to the end."""
    sorted_ = ordered(revisions)
    equal = tuple(r for r in sorted_ if holds(r, template))
    newest_other = max((r.revision for r in sorted_ if r not in equal), default=0)
    newest_equal = equal[-1].revision if equal else 0
    return Present(equal, newest_equal if newest_equal > newest_other else newest_other + 1)


def surplus(revisions: Sequence[ControllerRevision], live: Collection[str], limit: int) -> tuple[ControllerRevision, ...]:
    """The revisions beyond the limit, the oldest first. `live`: names of those that pods or the set still refer to."""
    idle = [r for r in ordered(revisions) if r.metadata.name not in live]
    return tuple(idle[: max(0, len(idle) - limit)])


def body(owner: Object, template: msgspec.Raw, number: int, collisions: int, hash_label: str) -> dict[str, Any]:
    """A revision of the template, to be created."""
    digest = rollout.template_hash(template, collisions)
    data = {"spec": {"template": {**msgspec.json.decode(template), "$patch": "replace"}}}
    annotations: Mapping[str, str] = owner.metadata.annotations
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{owner.metadata.name}-{digest}",
            "labels": {**template_labels(template), hash_label: digest},
            "annotations": dict(annotations),
            "ownerReferences": [owner_reference(owner)],
        },
        # in the order in which Go writes a map: clients compare the bytes with what they make of the template
        "data": orjson.loads(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)),
        "revision": number,
    }


class Collision(Exception):
    """Another template has the name already: count one collision more and look again."""


async def record(
    client: Client,
    fresh: Fresh[ControllerRevision],
    owner: Object,
    template: msgspec.Raw,
    revisions: Sequence[ControllerRevision],
    collisions: int,
    hash_label: str,
) -> ControllerRevision:
    """The revision of the owner's present template: found, renumbered where it is taken up again, or created. Raises Collision."""
    there = present(template, revisions)
    if there.equal:
        newest = there.equal[-1]
        return newest if newest.revision == there.number else await renumber(client, fresh, newest, there.number)
    wanted = body(owner, template, there.number, collisions, hash_label)
    name, namespace = wanted["metadata"]["name"], owner.metadata.namespace
    try:
        return fresh.wrote(await client.create(ControllerRevision, wanted, namespace))
    except AlreadyExists:
        found = await client.get(ControllerRevision, name, namespace)
        if holds(found, template) and controller_uid(found.metadata) == owner.metadata.uid:
            return fresh.wrote(found)
        raise Collision(name) from None


async def renumber(client: Client, fresh: Fresh[ControllerRevision], revision: ControllerRevision, number: int) -> ControllerRevision:
    """The revision with another number."""

    def edit(live: dict[str, Any]) -> None:
        live["revision"] = number

    return fresh.wrote(await change(client, revision, edit))


async def remove(client: Client, fresh: Fresh[ControllerRevision], revisions: Iterable[ControllerRevision]) -> None:
    """Delete revisions; those that have gone already count as deleted."""
    for revision in revisions:
        meta = revision.metadata
        with contextlib.suppress(NotFound):
            await client.delete(ControllerRevision, meta.name, meta.namespace, uid=meta.uid)
        fresh.deleted(revision)


__all__ = [
    "HASH_LABEL",
    "NAMED_HASH_LABEL",
    "Collision",
    "Present",
    "body",
    "holds",
    "ordered",
    "present",
    "record",
    "remove",
    "surplus",
    "template_of",
]
