"""A sound object of every kind: it is accepted, its defaults fit the schema, and writing it again changes nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from minikube_py.resources.api import Resource
from minikube_py.resources.registry import built_in
from minikube_py.schema.definitions import load
from tests.resources.examples import EXAMPLES
from tests.resources.values import NOW, created, obj, updated

STORED = [r for r in built_in() if r.stored]


def example(kind: Resource) -> dict[str, Any]:
    """The example of a kind, decoded as the server decodes it."""
    given = obj(
        kind, "10.43.0.9" if kind.ref.plural == "ipaddresses" else "web", **copy.deepcopy(EXAMPLES[kind.ref.group, kind.ref.plural])
    )
    schema = load().schema(kind.ref.group, kind.ref.version, kind.ref.kind)
    assert schema.normalize(given) == []
    return given


def test_there_is_an_example_of_every_stored_kind() -> None:
    assert {(r.ref.group, r.ref.plural) for r in STORED} == set(EXAMPLES)


@pytest.mark.parametrize("kind", STORED, ids=lambda r: r.ref.plural)
def test_example(kind: Resource) -> None:
    new = created(kind, example(kind))
    kept = copy.deepcopy(new)
    schema = load().schema(kind.ref.group, kind.ref.version, kind.ref.kind)
    assert schema.normalize(kept) == [], "defaults and preparation set only what the schema knows"
    assert kept == new, "and in the form that it stores"
    again, faults = updated(kind, new, new)
    assert (again, faults) == (new, []), "a write of the same makes no difference"
    if "status" in kind.subresources:
        again, faults = updated(kind, new, new, "status")
        assert (again, faults) == (new, [])
    labelled = copy.deepcopy(new)
    labelled["metadata"]["labels"] = {**(new["metadata"].get("labels") or {}), "a": "b"}
    assert updated(kind, new, labelled)[1] == []
    assert len(list(kind.columns.cells(new, NOW))) == len(kind.columns.definitions)
    kind.strategy.warnings(new, None)
    assert all(isinstance(read(new), str) for read in kind.strategy.selectable_fields.values())


@pytest.mark.parametrize("kind", [r for r in STORED if r.converters], ids=lambda r: r.ref.plural)
def test_other_versions_fit_their_schemas_and_come_back(kind: Resource) -> None:
    new = created(kind, example(kind))
    for ref, converter in kind.converters.items():
        other = converter.from_hub(copy.deepcopy(new))
        kept = copy.deepcopy(other)
        assert load().schema(ref.group, ref.version, ref.kind).normalize(kept) == []
        back = converter.to_hub(other)
        assert back == new
