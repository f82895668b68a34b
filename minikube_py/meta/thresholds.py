"""Eviction thresholds as a kubelet takes them: `memory.available<100Mi`, `nodefs.available<10%`. Pure.

A threshold names a signal, what must be left of it (an amount, or a share of the whole), how long less may be left before somebody has to
go (0: a hard threshold), and how much more than the threshold is to be won back once it was crossed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from minikube_py.meta import quantity

MEMORY = "memory.available"
NODEFS = "nodefs.available"
NODEFS_INODES = "nodefs.inodesFree"
IMAGEFS = "imagefs.available"
IMAGEFS_INODES = "imagefs.inodesFree"
PIDS = "pid.available"
ALLOCATABLE_MEMORY = "allocatableMemory.available"
"""What pods together may still take of their common limit (Node Allocatable). Nobody configures it: it follows from the hard threshold of
memory, see `with_allocatable`."""

SIGNALS = (MEMORY, NODEFS, NODEFS_INODES, IMAGEFS, IMAGEFS_INODES, PIDS)
DEFAULT_HARD = (f"{MEMORY}<100Mi", f"{NODEFS}<10%", f"{NODEFS_INODES}<5%", f"{IMAGEFS}<15%", f"{IMAGEFS_INODES}<5%")
"""Upstream's defaults (pkg/kubelet/eviction/defaults_linux.go)."""


class ThresholdError(ValueError):
    """Not a threshold; the text says what is wrong with it."""


class Amount(NamedTuple):
    """A fixed amount, or a share (0..1) of what there is."""

    fixed: int = 0
    share: float = 0.0

    def of(self, capacity: int) -> int:
        """The amount where `capacity` is the whole."""
        return int(capacity * self.share) if self.share else self.fixed


class Threshold(NamedTuple):
    """Less than `amount` of `signal` is too little; `grace` in seconds, 0 is a hard threshold."""

    signal: str
    amount: Amount
    grace: float = 0.0
    reclaim: Amount = Amount()

    @property
    def hard(self) -> bool:
        """Whether pods go at once."""
        return not self.grace


def parse(
    hard: Iterable[str], soft: Iterable[str] = (), graces: Mapping[str, float] | None = None, reclaims: Iterable[str] = ()
) -> tuple[Threshold, ...]:
    """The thresholds of `signal<amount` statements; soft ones need a grace period by signal, `reclaims` are `signal=amount`.

    Raises ThresholdError.
    """
    graces = graces or {}
    for signal in graces:
        _known(signal)
    won_back = dict(_amounts(reclaims, "="))
    out = [Threshold(signal, amount, 0.0, won_back.get(signal, Amount())) for signal, amount in _amounts(hard, "<") if any(amount)]
    for signal, amount in _amounts(soft, "<"):
        if signal not in graces:
            raise ThresholdError(f"grace period must be specified for the soft eviction threshold {signal}")
        if any(amount):
            out.append(Threshold(signal, amount, graces[signal], won_back.get(signal, Amount())))
    return tuple(out)


def with_allocatable(thresholds: Iterable[Threshold]) -> tuple[Threshold, ...]:
    """These, and hard ones of memory once more for what all pods together may take: they are ended before the kernel has to."""
    given = tuple(thresholds)
    return (*given, *(t._replace(signal=ALLOCATABLE_MEMORY) for t in given if t.hard and t.signal == MEMORY))


def hard_memory(thresholds: Iterable[Threshold], capacity: int) -> int:
    """Bytes that the hard threshold keeps free, which no pod can be given."""
    return max((t.amount.of(capacity) for t in thresholds if t.hard and t.signal == MEMORY), default=0)


def hard_disk(thresholds: Iterable[Threshold], capacity: int) -> int:
    """The same of the node's disk."""
    return max((t.amount.of(capacity) for t in thresholds if t.hard and t.signal == NODEFS), default=0)


def _amounts(statements: Iterable[str], operator: str) -> Iterable[tuple[str, Amount]]:
    for statement in statements:
        signal, found, text = statement.partition(operator)
        if not found:
            raise ThresholdError(f"{statement!r} must be SIGNAL{operator}AMOUNT, like {MEMORY}{operator}100Mi")
        _known(signal)
        yield signal, _amount(signal, text)


def _known(signal: str) -> None:
    if signal not in SIGNALS:
        raise ThresholdError(f"{signal!r} is not a signal: {', '.join(SIGNALS)}")


def _amount(signal: str, text: str) -> Amount:
    if text in ("0%", "100%"):
        return Amount()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?%", text):
        share = float(text[:-1]) / 100
        if share > 1:
            raise ThresholdError(f"{signal}: {text} is more than 100%")
        return Amount(share=share)
    try:
        fixed = quantity.parse(text).value()
    except quantity.QuantityError:
        fixed = 0
    if fixed <= 0:
        raise ThresholdError(f"{signal}: {text!r} must be a positive amount like 100Mi, or a share like 10%")
    return Amount(fixed)
