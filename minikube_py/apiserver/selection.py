"""What a list or watch selects: selectors turned into an Interest (watch.py), and the field terms that authorization looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from minikube_py.apiserver.cache import Entry
from minikube_py.apiserver.watch import Interest
from minikube_py.meta import selectors
from minikube_py.meta.errors import BadRequest
from minikube_py.resources.api import Resource
from minikube_py.types.meta import ResourceRef

METADATA_FIELDS = ("metadata.name", "metadata.namespace")


class Term(NamedTuple):
    """One term of a field selector; `operator` is "=" or "!="."""

    field: str
    operator: str
    value: str


def field_terms(text: str) -> tuple[Term, ...]:
    """The terms of a field selector. Raises BadRequest."""
    unequal = selectors.Operator.NOT_EQUALS
    parsed = selectors.parse_field_selector(text)
    return tuple(Term(r.key, "!=" if r.operator is unequal else "=", r.values[0]) for r in parsed.requirements)


_USUAL = 512
"""Length of selectors up to which it is remembered what they select."""


def interest(resource: Resource, ref: ResourceRef, namespace: str, name: str, labels: str, fields: str) -> Interest:
    """What selects the objects of a list or watch in a served version; the same for the same question, so that watchers who ask it can be
    told the same bytes. Raises BadRequest for a selector that cannot be read, or an unknown field."""
    if len(labels) + len(fields) > _USUAL:
        return _interest(resource, ref, namespace, name, labels, fields)
    return _known_interest(resource, ref, namespace, name, labels, fields)


def _interest(resource: Resource, ref: ResourceRef, namespace: str, name: str, labels: str, fields: str) -> Interest:
    known = _field_names(resource, ref)
    predicates: list[Callable[[Entry], bool]] = []
    chosen = name or None
    place = namespace or None
    node = None
    for term in field_terms(fields) if fields else ():
        asked, operator, value = term
        field = known.get(asked, "")
        if not field:
            supported = ", ".join(f'"{name}"' for name in known)
            raise BadRequest(f'"{asked}" is not a known field selector: only {supported}')
        if operator == "=" and field == "metadata.name" and (chosen is None or chosen == value):
            chosen = value
        elif operator == "=" and field == "metadata.namespace" and resource.ref.namespaced and (place is None or place == value):
            place = value
        elif operator == "=" and field == "spec.nodeName" and value and resource.ref.plural == "pods" and node is None:
            node = value
        elif operator == "=":
            predicates.append(lambda entry, field=field, value=value: entry.field(field) == value)  # type: ignore[misc]
        else:
            predicates.append(lambda entry, field=field, value=value: entry.field(field) != value)  # type: ignore[misc]
    if labels:
        selected = selectors.parse_label_selector(labels).matches
        predicates.append(lambda entry: selected(entry.labels))
    if not predicates:
        return Interest(place, chosen, None, node)
    matches = predicates[0] if len(predicates) == 1 else lambda entry: all(predicate(entry) for predicate in predicates)
    return Interest(place, chosen, matches, node)


_known_interest = lru_cache(maxsize=128)(_interest)


def _field_names(resource: Resource, ref: ResourceRef) -> Mapping[str, str]:
    """What field selectors of a served version may name, and what the stored version calls it."""
    names = {field: field for field in METADATA_FIELDS}
    converter = resource.converters.get(ref)
    if converter is not None and converter.fields is not None:
        return {**names, **converter.fields}
    return {**names, **{field: field for field in resource.strategy.selectable_fields}}
