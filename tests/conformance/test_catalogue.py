"""Choosing tests, and the expression that Ginkgo gets."""

from __future__ import annotations

import re

from tests.conformance.catalogue import Spec, catalogue, choose, expression


def test_every_test_of_the_release_is_there_once_and_marked_conformance() -> None:
    tests = catalogue()
    assert len(tests) == 446
    assert len({test.name for test in tests}) == 446
    assert all("[Conformance]" in test.name for test in tests)


def test_choices_narrow_each_other() -> None:
    watches = choose(catalogue(), capabilities=["API-02"])
    assert {test.capability for test in watches} == {"API-02 watch"}
    assert len(watches) == 5
    assert [test.name for test in choose(watches, focus=["concurrent", "no such test"])] == [
        "[sig-api-machinery] Watchers should receive events on concurrent watches in same order [Conformance]"
    ]
    assert not any(test.needs_node for test in choose(catalogue(), api_only=True))


def test_the_expression_matches_the_chosen_names_and_no_other() -> None:
    chosen = choose(catalogue(), capabilities=["NODE"])
    compiled = re.compile(expression(chosen))
    matched = {test for test in catalogue() if compiled.search(f"Kubernetes e2e suite {test.name}")}
    assert matched == set(chosen)


def test_a_name_that_begins_or_continues_another_is_not_taken_for_it() -> None:
    spec = Spec("X-01", False, "[sig-x] a.b (c) [Conformance]")
    compiled = re.compile(expression([spec]))
    assert compiled.search("suite [sig-x] a.b (c) [Conformance]")
    assert not compiled.search("suite [sig-x] a.b (c) [Conformance] [Serial]")
    assert not compiled.search("suite [sig-x] axb (c) [Conformance]")
