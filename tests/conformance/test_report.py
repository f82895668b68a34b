"""What the report says: only what Ginkgo reported, and nothing that was not run counts as passed."""

from __future__ import annotations

from typing import Any

from tests.conformance.catalogue import Spec
from tests.conformance.footprint import Footprint
from tests.conformance.report import NOT_RUN, Result, Run, document, results, suite_failures, summary, worst

WATCH, LEASE, POD, OTHER = (
    Spec(capability, False, f"[sig-x] {name} [Conformance]")
    for capability, name in (("API-02 watch", "watch"), ("API-20 Lease", "lease"), ("NODE-01 pods", "pod"), ("NODE-01 pods", "other"))
)
RUN = Run("0123abc", "v1.36.3", "2026-01-01 00:00 UTC", 2, 75.0, "a server without a node")


def spec(name: str, state: str, **more: Any) -> dict[str, Any]:
    """One entry of Ginkgo's report."""
    leaf = {"LeafNodeType": "It", "LeafNodeText": f"{name} [Conformance]", "State": state, "NumAttempts": 0 if state == "skipped" else 1}
    return {"ContainerHierarchyTexts": ["[sig-x]"], "RunTime": 2_000_000_000, **leaf, **more}


def test_a_chosen_test_has_the_state_that_was_reported() -> None:
    failure = {"Message": "Expected\n    <int>: 1\nto equal\n    <int>: 2"}
    suites = [{"SpecReports": [spec("watch", "passed"), spec("lease", "failed", Failure=failure), spec("other", "passed")]}]
    assert results(suites, [WATCH, LEASE, POD]) == {
        WATCH: Result("passed", 2.0),
        LEASE: Result("failed", 2.0, "Expected <int>: 1 to equal <int>: 2"),
        POD: Result(NOT_RUN),
    }


def test_what_the_focus_left_out_is_not_run_and_what_skipped_itself_is_skipped() -> None:
    suites = [{"SpecReports": [spec("watch", "skipped"), spec("lease", "skipped", NumAttempts=1, Failure={"Message": "no nodes"})]}]
    assert results(suites, [WATCH, LEASE]) == {WATCH: Result(NOT_RUN), LEASE: Result("skipped", 2.0, "no nodes")}


def test_of_several_runs_the_worst_counts() -> None:
    first = {WATCH: Result("passed", 1.0), LEASE: Result("failed", 2.0, "no"), POD: Result("passed", 3.0)}
    second = {WATCH: Result("passed", 4.0), LEASE: Result("passed", 5.0), POD: Result(NOT_RUN)}
    assert worst([first, second]) == {WATCH: Result("passed", 4.0), LEASE: Result("failed", 2.0, "no"), POD: Result(NOT_RUN)}


def test_a_setup_that_fails_is_told() -> None:
    suites = [{"SpecReports": [{"LeafNodeType": "SynchronizedBeforeSuite", "State": "failed", "Failure": {"Message": "no cluster"}}]}]
    assert suite_failures(suites) == ["SynchronizedBeforeSuite: no cluster"]


def test_the_document_counts_by_capability_and_names_what_did_not_pass() -> None:
    outcome = {WATCH: Result("passed", 2.0), LEASE: Result("timedout", 61.0, "no | answer"), POD: Result(NOT_RUN)}
    text = document([WATCH, LEASE, POD, OTHER], outcome, RUN)
    assert "- commit: 0123abc" in text
    assert "passed: **1** of 3 chosen, of 4 in all" in text
    assert "| API-02 watch | 1 | 1 | 1 | 0 | 0 | 0 | 2 |" in text
    assert "| API-20 Lease | 1 | 1 | 0 | 1 | 0 | 0 | 61 |" in text
    assert "| NODE-01 pods | 2 | 1 | 0 | 0 | 0 | 1 | 0 |" in text
    assert "- \\[sig-x\\] lease \\[Conformance\\]: timedout: no \\| answer" in text
    assert "watch \\[Conformance\\]" not in text
    assert summary(outcome) == "1 not run, 1 passed, 1 timedout"


def test_what_the_cluster_took_is_told_where_it_was_measured() -> None:
    bounds = (0.001, 0.05, float("inf"))
    before, after = dict.fromkeys(bounds, 10.0), dict(zip(bounds, (1005.0, 1010.0, 1010.0), strict=True))
    assert Footprint([100 << 20, 300 << 20, 120 << 20], before, after).lines() == [
        "memory of all nodes without containerd (PSS): 100 MiB before, 120 MiB median, 300 MiB at most, 120 MiB after",
        "the server's event loop was late by at most 1 ms (p99.0) and 50 ms (p99.9)",
    ]
    assert not Footprint().lines()
