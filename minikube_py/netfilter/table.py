"""Tables as values: chains of rules, the jumps that lead into them, and the difference between two states as iptables-restore input.

No input or output here. A rule is iptables-save's text without `-A CHAIN`. What always holds: one restore input changes a table as a whole
or not at all; chains are declared before anything refers to them, and removed after nothing does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

Chain = tuple[str, str]
"""(table, chain name)."""


class Jump(NamedTuple):
    """A rule in a built-in chain that leads into ours; it is put before everything else there (`first`) or after."""

    table: str
    hook: str
    rule: str
    first: bool = True


class Rules(NamedTuple):
    """Everything that one owner wants of one address family's tables."""

    chains: Mapping[Chain, tuple[str, ...]]
    jumps: tuple[Jump, ...] = ()


class Saved(NamedTuple):
    """What iptables-save showed: every chain with its rules, built-in ones too."""

    chains: Mapping[Chain, tuple[str, ...]]


NOTHING = Rules({})

_LONG = 16
"""From how many rules on a chain is edited and not written again."""


def parse_save(text: str) -> Saved:
    """The state in iptables-save's output (all tables)."""
    chains: dict[Chain, list[str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            chains[table, line[1:].split(" ", 1)[0]] = []
        elif line.startswith("-A "):
            _, name, rule = line.split(" ", 2)
            chains.setdefault((table, name), []).append(rule)
    return Saved({chain: tuple(rules) for chain, rules in chains.items()})


def restore_input(old: Rules, new: Rules) -> str:
    """Input for `iptables-restore --noflush` that turns `old` into `new`; empty where they are equal."""
    parts = [_table_input(table, old, new) for table in _tables(old, new)]
    return "".join(parts)


def _tables(*states: Rules) -> list[str]:
    names = {chain[0] for state in states for chain in state.chains} | {jump.table for state in states for jump in state.jumps}
    return sorted(names)


def _table_input(table: str, old: Rules, new: Rules) -> str:
    changed = [c for c, rules in new.chains.items() if c[0] == table and old.chains.get(c) != rules]
    gone = [c for c in old.chains if c[0] == table and c not in new.chains]
    jumps_in = [j for j in new.jumps if j.table == table and j not in old.jumps]
    jumps_out = [j for j in old.jumps if j.table == table and j not in new.jumps]
    if not (changed or gone or jumps_in or jumps_out):
        return ""
    edits = {chain: edit for chain in changed if (edit := _edit(old.chains.get(chain, ()), new.chains[chain])) is not None}
    lines = [f"*{table}"]
    # a declared chain is emptied, so one that is edited is not
    lines += [f":{chain[1]} - [0:0]" for chain in changed if chain not in edits]
    lines += [f":{name} - [0:0]" for _, name in gone]
    lines += [f"-D {jump.hook} {jump.rule}" for jump in jumps_out]
    for chain in changed:
        name = chain[1]
        if chain in edits:
            edit = edits[chain]
            lines += [f"-D {name} {rule}" for rule in edit.out]
            lines += [f"-I {name} 1 {rule}" for rule in reversed(edit.front)]
        else:
            lines += [f"-A {name} {rule}" for rule in new.chains[chain]]
    # each is put in front of the one before, so the last one first keeps their order
    lines += [f"-I {jump.hook} 1 {jump.rule}" for jump in reversed(jumps_in) if jump.first]
    lines += [f"-A {jump.hook} {jump.rule}" for jump in jumps_in if not jump.first]
    lines += [f"-X {name}" for _, name in gone]
    lines.append("COMMIT\n")
    return "\n".join(lines)


class _Edit(NamedTuple):
    """A change of a long chain by rules that go, wherever they are, and rules that are put in front."""

    out: tuple[str, ...]
    front: tuple[str, ...]


def _edit(old: tuple[str, ...], new: tuple[str, ...]) -> _Edit | None:
    """The edit that makes one of the other; None where there is none, or writing the chain again is as good."""
    if len(old) < _LONG or len(new) < _LONG:
        return None
    before, after = set(old), set(new)
    out = tuple(rule for rule in old if rule not in after)
    front = len(new) - (len(old) - len(out))
    if len(out) + front > len(new) // 2 or len(before) < len(old) or len(after) < len(new):
        return None
    if front < 0 or [rule for rule in old if rule in after] != list(new[front:]):
        return None
    return _Edit(out, new[:front])


def adopted(saved: Saved, wanted: Rules, owned: Iterable[str]) -> Rules:
    """What of the saved state is ours: chains whose names start with one of the `owned` prefixes, and the wanted jumps that stand already.

    The rules of adopted chains are taken as different from ours, so that the first restore rewrites them: what iptables-save prints need
    not be what was put in.
    """
    prefixes = tuple(owned)
    chains = {chain: ("",) for chain in saved.chains if chain[1].startswith(prefixes)}
    jumps = tuple(j for j in wanted.jumps if j.rule in saved.chains.get((j.table, j.hook), ()))
    stale = tuple(
        Jump(chain[0], chain[1], rule)
        for chain, rules in saved.chains.items()
        if not chain[1].startswith(prefixes)
        for rule in rules
        if _target(rule).startswith(prefixes) and not any(j.table == chain[0] and j.hook == chain[1] and j.rule == rule for j in jumps)
    )
    return Rules(chains, jumps + stale)


def drifted(saved: Saved, applied: Rules) -> bool:
    """Whether somebody else has taken chains, rules or jumps of ours away, or added rules to our chains."""
    for chain, rules in applied.chains.items():
        found = saved.chains.get(chain)
        if found is None or len(found) != len(rules):
            return True
    return any(jump.rule not in saved.chains.get((jump.table, jump.hook), ()) for jump in applied.jumps)


def _target(rule: str) -> str:
    words = rule.split(" ")
    return words[words.index("-j") + 1] if "-j" in words[:-1] else ""
