"""`scripts/conformance`: build, choose, run, report."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from tests.conformance import report
from tests.conformance.build import NoToolchain, Programs, build, cache_directory, release
from tests.conformance.catalogue import Spec, catalogue, choose
from tests.conformance.footprint import watched
from tests.conformance.run import Target, commit, run, server_alone, two_nodes

_DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--focus", multiple=True, metavar="RE", help="Only tests whose name matches; may be given again.")
@click.option("--capability", "capabilities", multiple=True, metavar="ID", help="Only a capability's tests (API-09), or a group's (API).")
@click.option("--api-only", is_flag=True, help="Only the tests that need no node; needs no root.")
@click.option("--ci", "ci_only", is_flag=True, help="Only the tests that CI runs: they have passed before, and are quick.")
@click.option("--serial/--parallel", "serial", default=None, help="Only the tests that bear no other beside them; only the others.")
@click.option("--procs", type=click.IntRange(1), default=2, show_default=True, help="How many tests run at a time.")
@click.option("--times", type=click.IntRange(1), default=1, help="Run them so often, one run after the other on the same cluster.")
@click.option("--kubeconfig", type=click.Path(exists=True, path_type=Path), help="Test this cluster instead of bringing one up.")
@click.option("--report", "path", type=click.Path(path_type=Path), help="Where the report goes.  [docs/conformance.md; with --focus: none]")
@click.option("--logs", type=click.Path(path_type=Path), help="Where logs go.  [last-run in the cache folder]")
@click.option("--list", "listed", is_flag=True, help="Print the chosen tests, and run none.")
def main(
    focus: tuple[str, ...],
    capabilities: tuple[str, ...],
    api_only: bool,
    ci_only: bool,
    serial: bool | None,
    procs: int,
    times: int,
    kubeconfig: Path | None,
    path: Path | None,
    logs: Path | None,
    listed: bool,
) -> None:
    """Run Kubernetes's conformance tests against this tree. Exit code 1: a chosen test did not pass; 3: there is no Go toolchain."""
    try:
        chosen = choose(catalogue(), focus=focus, capabilities=capabilities, api_only=api_only, ci_only=ci_only, serial=serial)
    except re.error as error:
        raise click.BadParameter(str(error), param_hint="--focus") from error
    if not chosen:
        raise click.UsageError("no conformance test matches")
    if listed:
        for test in chosen:
            click.echo(f"{test.capability}\t{test.name}")
        return
    programs = _built()
    directory = (logs or cache_directory() / "last-run").absolute()
    directory.mkdir(parents=True, exist_ok=True)
    when, began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), time.monotonic()
    outcomes, trouble, measured = [], [], []
    with _target(chosen, programs, kubeconfig, directory) as target:
        for number in range(1, times + 1):
            logs_of_run = directory / f"run-{number}" if times > 1 else directory
            logs_of_run.mkdir(exist_ok=True)
            with watched(target.nodes) as footprint:
                suites = run(programs, target, chosen, processes=procs, directory=logs_of_run)
            outcomes.append(report.results(suites, chosen))
            trouble += report.suite_failures(suites)
            measured += [f"run {number} of {times}: {line}" if times > 1 else line for line in footprint.lines()]
            click.echo("; ".join((report.summary(outcomes[-1]), *footprint.lines())), err=True)
    seconds = time.monotonic() - began
    outcome = report.worst(outcomes)
    circumstances = report.Run(commit(), release(), when, procs, seconds, target.description, measured)
    text = report.document(catalogue(), outcome, circumstances, trouble)
    (directory / "conformance.md").write_text(text)
    path = path or (None if focus else _DOCUMENT)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for line in trouble:
        click.echo(f"the suite failed: {line}")
    for test, result in outcome.items():
        click.echo(f"{result.state:8} {result.seconds:6.1f} s  {test.name}")
    click.echo(f"{report.summary(outcome)}; {seconds:.0f} s; report: {path or directory / 'conformance.md'}; logs: {directory}")
    sys.exit(0 if outcome and all(result.state == report.PASSED for result in outcome.values()) else 1)


def _built() -> Programs:
    try:
        return build()
    except NoToolchain as error:
        click.echo(f"skipped: {error}", err=True)
        sys.exit(3)
    except subprocess.CalledProcessError as error:
        raise click.ClickException(f"the build failed: {error}") from error


@contextlib.contextmanager
def _target(chosen: tuple[Spec, ...], programs: Programs, kubeconfig: Path | None, directory: Path) -> Iterator[Target]:
    if kubeconfig is not None:
        yield Target(kubeconfig, "one that was there before the run", has_nodes=any(test.needs_node for test in chosen))
    elif any(test.needs_node for test in chosen):
        with two_nodes(directory, programs) as target:
            yield target
    else:
        with server_alone(directory) as target:
            yield target


if __name__ == "__main__":
    main()
