"""Prometheus's text format (version 0.0.4): families of samples in, the text of a scrape out.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Sample(NamedTuple):
    """One number. `suffix` follows the family's name (`_bucket` of a histogram); `time` is in seconds since the epoch, None: not told."""

    value: float
    labels: Mapping[str, str] = {}
    time: float | None = None
    suffix: str = ""


class Family(NamedTuple):
    """The samples of one name; `kind` is counter, gauge, histogram or untyped."""

    name: str
    kind: str
    help: str
    samples: Sequence[Sample]


def text(families: Iterable[Family]) -> str:
    """The families that have samples, in their order."""
    lines = []
    for family in families:
        if family.samples:
            lines += [f"# HELP {family.name} {_plain(family.help)}", f"# TYPE {family.name} {family.kind}"]
            lines += [_line(family.name, sample) for sample in family.samples]
    return "\n".join([*lines, ""])


def _line(name: str, sample: Sample) -> str:
    listed = ",".join(f'{key}="{_quoted(value)}"' for key, value in sample.labels.items())
    labels = f"{{{listed}}}" if listed else ""
    value = sample.value
    number = str(int(value)) if value == int(value) else repr(float(value))
    when = f" {int(sample.time * 1000)}" if sample.time is not None else ""
    return f"{name}{sample.suffix}{labels} {number}{when}"


def _plain(words: str) -> str:
    return words.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(value: str) -> str:
    return _plain(value).replace('"', '\\"')
