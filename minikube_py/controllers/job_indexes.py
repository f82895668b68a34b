"""Completion indexes: sets of numbers as jobs write them ("1,3-5"), and what pods say of theirs.

Pure. A set of indexes is a frozenset; a job has at most a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Iterable

from minikube_py.types.pod import Pod

INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"


def parse(text: str, completions: int) -> frozenset[int]:
    """The indexes below `completions` that a text lists; what is no number is passed over."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        try:
            low, high = int(first), int(last) if dash else int(first)
        except ValueError:
            continue
        found.update(range(max(0, low), min(high, completions - 1) + 1))
    return frozenset(found)


def text(indexes: Iterable[int]) -> str:
    """The shortest list: runs of three and more are ranges, two neighbours are named."""
    parts: list[str] = []
    run: list[int] = []

    def close() -> None:
        if len(run) > 2:
            parts.append(f"{run[0]}-{run[-1]}")
        else:
            parts.extend(str(index) for index in run)

    for index in sorted(indexes):
        if run and index != run[-1] + 1:
            close()
            run.clear()
        run.append(index)
    close()
    return ",".join(parts)


def index_of(pod: Pod) -> int | None:
    """The completion index of a pod."""
    value = pod.metadata.annotations.get(INDEX, "")
    return int(value) if value.isascii() and value.isdigit() else None


def count(pod: Pod, annotation: str) -> int:
    """A failure count that a pod carries over from those before it; 0 where there is none that makes sense."""
    value = pod.metadata.annotations.get(annotation, "")
    return int(value) if value.isascii() and value.isdigit() and int(value) < 2**31 else 0
