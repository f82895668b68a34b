"""Sets of field paths, in the form in which the API shows them: FieldsV1 of sigs.k8s.io/structured-merge-diff.

A set is a tree of dicts whose keys are path elements: f:<name> for a field or map key, k:<json> for an item of a keyed list, v:<json> for a
member of a set. An empty dict is a path that is in the set; "." within a node says that the node's own path is, beside its children's.
Trees are never changed after they are built, so operations share what they can.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

FieldSet = Mapping[str, Any]
LEAF: dict[str, Any] = {}
SELF = "."
NOTHING: FieldSet = {}
"""The empty set."""


def union(a: FieldSet, b: FieldSet) -> FieldSet:
    """Paths in either."""
    if not a or not b:
        return a or b
    return _joined(a, b)


def _joined(a: FieldSet, b: FieldSet) -> FieldSet:
    out = dict(a)
    for key, node in b.items():
        mine = out.get(key)
        out[key] = node if mine is None else LEAF if key == SELF else _union(mine, node)
    return out


def _union(a: FieldSet, b: FieldSet) -> FieldSet:
    if not a:
        return b if not b or SELF in b else {SELF: LEAF, **b}
    if not b:
        return a if SELF in a else {SELF: LEAF, **a}
    return _joined(a, b)


def difference(a: FieldSet, b: FieldSet) -> FieldSet:
    """Paths in `a` that are not in `b`. What is below a path of `b` stays."""
    if not a or not b:
        return a
    return _without(a, b)


def _without(a: FieldSet, b: FieldSet) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, node in a.items():
        other = b.get(key)
        if other is None:
            out[key] = node
        elif key != SELF and (left := _difference(node, other)) is not None:
            out[key] = left
    return out


def _difference(a: FieldSet, b: FieldSet) -> FieldSet | None:
    """The same for two nodes; None when nothing is left."""
    if not a:
        return None if not b or SELF in b else a
    out = {key: node for key, node in a.items() if key != SELF} if not b else _without(a, b)
    if not out:
        return None
    return LEAF if len(out) == 1 and SELF in out else out


def intersection(a: FieldSet, b: FieldSet) -> FieldSet:
    """Paths in both."""
    return difference(a, difference(a, b))


def paths(fields: FieldSet, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every path of the set, as its elements."""
    for key, node in fields.items():
        if key == SELF:
            yield prefix
        elif node:
            yield from paths(node, (*prefix, key))
        else:
            yield (*prefix, key)
