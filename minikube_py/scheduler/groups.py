"""What makes pods alike to other pods: their kind (namespace and labels), and the terms with which pods ask for or avoid one another.

Both are interned: one object for equal values, compared by identity, so that counting pods by kind and remembering what a selector says of
a kind cost a dictionary look-up. A node with a hundred replicas of one workload has one kind to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from minikube_py.meta import selectors
from minikube_py.meta.selectors import Selector
from minikube_py.types.meta import Labels
from minikube_py.types.pod import Pod, PodAffinityTerm

_BOUND = 50_000
"""Tables of interned values start anew at this size: what is in use stays valid, equal values that come later are counted beside it."""

NOTHING = selectors.parse_label_selector("x,!x")
"""The selector of a term that has none: no labels match it."""


class Kind:
    """Pods of one namespace with the same labels; those on their way out (`ending`) are a kind of their own."""

    __slots__ = ("ending", "labels", "namespace")

    def __init__(self, namespace: str, labels: Labels, ending: bool) -> None:
        self.namespace, self.labels, self.ending = namespace, labels, ending


_kinds: dict[tuple[str, bool, tuple[tuple[str, str], ...]], Kind] = {}


def kind_of(pod: Pod) -> Kind:
    """The pod's kind."""
    meta = pod.metadata
    ending = meta.deletionTimestamp is not None
    key = (meta.namespace, ending, tuple(sorted(meta.labels.items())))
    kind = _kinds.get(key)
    if kind is None:
        if len(_kinds) >= _BOUND:
            _kinds.clear()
        kind = _kinds[key] = Kind(meta.namespace, meta.labels, ending)
    return kind


class Term:
    """Pods that are meant by an affinity term, and the topology within which they are looked for.

    `namespaces` are named; further ones are chosen by their labels where there is a `namespace_selector`.
    """

    __slots__ = ("namespace_selector", "namespaces", "selector", "topology")

    def __init__(self, topology: str, selector: Selector, namespaces: frozenset[str], namespace_selector: Selector | None) -> None:
        self.topology, self.selector = topology, selector
        self.namespaces, self.namespace_selector = namespaces, namespace_selector

    def matches(self, kind: Kind, namespaces: Mapping[str, Labels]) -> bool:
        """Whether pods of a kind are meant; the labels of all namespaces come in."""
        if kind.namespace not in self.namespaces:
            chosen = self.namespace_selector
            if chosen is None or not chosen.matches(namespaces.get(kind.namespace, {})):
                return False
        return self.selector.matches(kind.labels)


_terms: dict[tuple[str, Selector, frozenset[str], Selector | None], Term] = {}


def term_of(given: PodAffinityTerm, namespace: str) -> Term:
    """A term of a pod of some namespace: without any namespaces of its own it means the pod's."""
    names = frozenset(given.namespaces)
    if not names and given.namespaceSelector is None:
        names = frozenset({namespace})
    chosen = selectors.of_object(given.namespaceSelector)
    key = (given.topologyKey, selectors.of_object(given.labelSelector) or _or_nothing(given), names, chosen)
    term = _terms.get(key)
    if term is None:
        if len(_terms) >= _BOUND:
            _terms.clear()
        term = _terms[key] = Term(*key)
    return term


def _or_nothing(given: PodAffinityTerm) -> Selector:
    return NOTHING if given.labelSelector is None else selectors.EVERYTHING


class Use(NamedTuple):
    """How a pod uses a term: "anti" (must not be near), "near" (must be near), "prefer" and "avoid" (with a weight)."""

    role: str
    term: Term
    weight: int = 0


class Wishes(NamedTuple):
    """All terms of a pod."""

    near: tuple[Term, ...] = ()
    anti: tuple[Term, ...] = ()
    prefer: tuple[tuple[int, Term], ...] = ()
    avoid: tuple[tuple[int, Term], ...] = ()

    def uses(self) -> Iterable[Use]:
        """The terms as they count for other pods."""
        yield from (Use("near", term) for term in self.near)
        yield from (Use("anti", term) for term in self.anti)
        yield from (Use("prefer", term, weight) for weight, term in self.prefer)
        yield from (Use("avoid", term, weight) for weight, term in self.avoid)


NO_WISHES = Wishes()


def wishes_of(pod: Pod) -> Wishes:
    """What the pod asks of its neighbours. A selector that cannot be understood matches nothing."""
    affinity = pod.spec.affinity
    if affinity is None or (affinity.podAffinity is None and affinity.podAntiAffinity is None):
        return NO_WISHES
    namespace = pod.metadata.namespace
    sides = []
    for side in (affinity.podAffinity, affinity.podAntiAffinity):
        required = side.requiredDuringSchedulingIgnoredDuringExecution if side is not None else ()
        preferred = side.preferredDuringSchedulingIgnoredDuringExecution if side is not None else ()
        sides.append(
            (
                tuple(term_of(t, namespace) for t in required),
                tuple((p.weight, term_of(p.podAffinityTerm, namespace)) for p in preferred),
            )
        )
    (near, prefer), (anti, avoid) = sides
    return Wishes(near, anti, prefer, avoid)
