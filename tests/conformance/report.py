"""What Ginkgo has reported, as results by test and as the Markdown of docs/conformance.md. Pure: values in, text out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.conformance.catalogue import Spec

PASSED: Final = "passed"
SKIPPED: Final = "skipped"  # the test was run and has found that it cannot be run here
NOT_RUN: Final = "not run"  # it was chosen, and Ginkgo has no result: no such test in the binary, or the run ended before it
_REASON_LENGTH: Final = 240


@dataclass(frozen=True)
class Result:
    """How one test ended: Ginkgo's word for it ('passed', 'failed', 'timedout', …), what it took, and why it failed."""

    state: str
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Run:
    """The circumstances of a run, for the head of the report."""

    commit: str
    release: str
    when: str
    processes: int
    seconds: float
    cluster: str
    measured: Sequence[str] = ()  # what the cluster took meanwhile, a line each


def results(suites: Iterable[Mapping[str, Any]], chosen: Collection[Spec]) -> dict[Spec, Result]:
    """The result of each chosen test, from Ginkgo's JSON report. What was not chosen is not in it."""
    found: dict[str, Result] = {}
    for suite in suites:
        for spec in suite.get("SpecReports") or ():
            if spec.get("LeafNodeType") != "It":
                continue
            name = " ".join([*(spec.get("ContainerHierarchyTexts") or ()), spec["LeafNodeText"]])
            failure = spec.get("Failure") or {}
            seconds = spec.get("RunTime", 0) / 1e9
            if spec["State"] == "skipped" and not spec.get("NumAttempts"):
                continue  # not in the focus
            found[name] = Result(spec["State"], seconds, "" if spec["State"] == PASSED else _reason(failure.get("Message", "")))
    return {test: found.get(test.name, Result(NOT_RUN)) for test in chosen}


def worst(outcomes: Sequence[Mapping[Spec, Result]]) -> dict[Spec, Result]:
    """Of several runs of the same tests: a test has passed that has passed in all of them, and the first other result counts."""
    return {test: next((one[test] for one in outcomes if one[test].state != PASSED), last) for test, last in outcomes[-1].items()}


def suite_failures(suites: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why the suite's own setup or teardown failed, where it did."""
    found = (
        f"{spec['LeafNodeType']}: {_reason((spec.get('Failure') or {}).get('Message', ''))}"
        for suite in suites
        for spec in suite.get("SpecReports") or ()
        if spec.get("LeafNodeType") != "It" and spec.get("State") not in (PASSED, "skipped", "")
    )
    return list(dict.fromkeys(found))  # each of the parallel processes tells it


def summary(outcome: Mapping[Spec, Result]) -> str:
    """One line."""
    counts = _counts(outcome.values())
    return ", ".join(f"{number} {state}" for state, number in counts.items()) or "no test was chosen"


def document(catalogue: Sequence[Spec], outcome: Mapping[Spec, Result], run: Run, trouble: Sequence[str] = ()) -> str:
    """The whole report: what was run, the table by capability, and every test that was run and did not pass, with its reason."""
    passed = sum(result.state == PASSED for result in outcome.values())
    lines = [
        "# Conformance",
        "",
        "Written by `scripts/conformance`; not edited by hand. A test counts as passed only where this run has run it and it has passed.",
        "",
        f"- commit: {run.commit}",
        f"- upstream's tests: {run.release}",
        f"- cluster: {run.cluster}",
        f"- run: {run.when}, {run.processes} {'process' if run.processes == 1 else 'processes'}, {_duration(run.seconds)}",
        *(f"- {line}" for line in run.measured),
        f"- passed: **{passed}** of {len(outcome)} chosen, of {len(catalogue)} in all",
        "",
        *(f"The suite itself failed: {line}\n" for line in trouble),
        "| capability | tests | chosen | passed | failed | skipped | not run | seconds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for capability in dict.fromkeys(test.capability for test in catalogue):
        total = sum(test.capability == capability for test in catalogue)
        lines.append(_row(capability, total, [result for test, result in outcome.items() if test.capability == capability]))
    lines.append(_row("**all**", len(catalogue), list(outcome.values())))
    missing = {test: result for test, result in outcome.items() if result.state != PASSED}
    if missing:
        lines += ["", "## Run and not passed"]
    for capability in dict.fromkeys(test.capability for test in missing):
        lines += ["", f"### {capability}", ""]
        lines += [
            f"- {_plain(test.name)}: {result.state}{': ' + _plain(result.reason) if result.reason else ''}"
            for test, result in missing.items()
            if test.capability == capability
        ]
    return "\n".join(lines) + "\n"


def _row(name: str, total: int, ended: Sequence[Result]) -> str:
    counts = _counts(ended)
    passed, skipped, not_run = (counts.pop(state, 0) for state in (PASSED, SKIPPED, NOT_RUN))
    seconds = sum(result.seconds for result in ended)
    cells = (name, total, len(ended), passed, sum(counts.values()), skipped, not_run, f"{seconds:.0f}" if ended else "")
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _counts(ended: Iterable[Result]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for result in ended:
        counts[result.state] = counts.get(result.state, 0) + 1
    return dict(sorted(counts.items()))


def _reason(message: str) -> str:
    """The beginning of a failure's message, on one line."""
    line = " ".join(re.sub(r"\x1b\[[\d;]*m", "", message).split())
    return line if len(line) <= _REASON_LENGTH else line[:_REASON_LENGTH].rstrip() + " …"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_<>|\[\]#])", r"\\\1", text)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
