"""Which tests there are, which capability each belongs to, and the choice among them. Pure but for reading the table beside this file."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("tests.tsv")


class Spec(NamedTuple):
    """One conformance test: its capability ('API-02 watch'), whether it needs a node, its name as Ginkgo prints it, and whether CI runs it:
    it has passed before, and is quick."""

    capability: str
    needs_node: bool
    name: str
    in_ci: bool = False


@cache
def catalogue() -> tuple[Spec, ...]:
    """Every conformance test of the release, by capability."""
    with TABLE.open(newline="") as table:
        return tuple(
            Spec(row["capability"], row["needs"] == "node", row["test"], row["ci"] == "ci")
            for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)
        )


def choose(
    tests: Iterable[Spec],
    *,
    focus: Collection[str] = (),
    capabilities: Collection[str] = (),
    api_only: bool = False,
    ci_only: bool = False,
    serial: bool | None = None,
) -> tuple[Spec, ...]:
    """The tests whose name matches one of the expressions and that belong to one of the capabilities (named by id or its beginning: API).

    An empty collection chooses everything; so does None for `serial`, which else tells whether tests are wanted that bear no other beside
    them. Raises re.error.
    """
    expressions = [re.compile(expression) for expression in focus]
    return tuple(
        test
        for test in tests
        if (not expressions or any(expression.search(test.name) for expression in expressions))
        and (not capabilities or any(test.capability.startswith(wanted) for wanted in capabilities))
        and not (api_only and test.needs_node)
        and not (ci_only and not test.in_ci)
        and serial in (None, "[Serial]" in test.name)
    )


def expression(tests: Iterable[Spec]) -> str:
    """Ginkgo's --focus that matches exactly these tests: it searches in the suite's description followed by the test's name."""
    names = "|".join(_literal(test.name) for test in tests)
    return f" ({names})$"


def _literal(text: str) -> str:
    """The text as a regular expression of Go's, which knows fewer escapes than Python's."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)
