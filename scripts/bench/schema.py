#!/usr/bin/env python3
"""What one write costs in this package, in microseconds: parsing, normalizing, patching, managedFields, of a 1 KB configmap and a 5 KB pod.

Medians of batches on one core; `--check` fails when a figure is over its budget, with room for a busy machine.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import orjson

from minikube_py.meta.patch import json_patch, merge_patch
from minikube_py.schema.decode import parse_json, parse_yaml
from minikube_py.schema.definitions import Schema, load
from minikube_py.schema.fields import update_managed_fields
from minikube_py.schema.merge import strategic_merge
from tests.schema import objects

BUDGET = {"configmap: normalize": 25.0, "pod: normalize": 100.0, "configmap: managedFields, create": 30.0}


def microseconds(work: Callable[[], object], batches: int = 15, seconds: float = 0.02) -> float:
    """The median time of one call."""
    started = time.perf_counter()
    work()
    count = max(1, int(seconds / max(time.perf_counter() - started, 1e-7)))
    figures = []
    for _ in range(batches):
        started = time.perf_counter()
        for _ in range(count):
            work()
        figures.append((time.perf_counter() - started) / count)
    return statistics.median(figures) * 1e6


def figures(name: str, schema: Schema, obj: dict[str, Any]) -> dict[str, float]:
    """The figures of one object."""
    body = orjson.dumps(obj)
    schema.normalize(obj)
    created = copy.deepcopy(obj)
    update_managed_fields(schema, created, None, manager="bench", api_version="v1", now="2026-01-02T03:04:05Z")
    stored = orjson.dumps(created)
    labelled = orjson.loads(stored)
    labelled["metadata"]["labels"]["changed"] = "yes"
    patch = {"metadata": {"labels": {"changed": "yes"}, "annotations": None}}
    operations = [{"op": "add", "path": "/metadata/labels/changed", "value": "yes"}]

    def create() -> None:
        obj["metadata"].pop("managedFields", None)
        update_managed_fields(schema, obj, None, manager="bench", api_version="v1", now="2026-01-02T03:04:05Z")

    def update() -> None:
        labelled["metadata"].pop("managedFields", None)
        update_managed_fields(schema, labelled, created, manager="other", api_version="v1", now="2026-01-02T03:04:06Z")

    work: dict[str, Callable[[], object]] = {
        f"parse JSON ({len(body)} bytes)": lambda: parse_json(body),
        "normalize": lambda: schema.normalize(obj),
        "managedFields, create": create,
        "managedFields, a label changes": update,
        f"read the stored object ({len(stored)} bytes)": lambda: orjson.loads(stored),
        "the same and a merge patch": lambda: merge_patch(orjson.loads(stored), patch),
        "the same and a JSON patch": lambda: json_patch(orjson.loads(stored), operations),
        "the same and a strategic merge patch": lambda: strategic_merge(schema, orjson.loads(stored), patch),
        "parse as YAML": lambda: parse_yaml(b"# \n" + body),
    }
    return {f"{name}: {what}": microseconds(call) for what, call in work.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a figure is over its budget")
    arguments = parser.parse_args()
    definitions = load()
    found = {
        **figures("configmap", definitions.schema("", "v1", "ConfigMap"), objects.configmap()),
        **figures("pod", definitions.schema("", "v1", "Pod"), objects.pod()),
    }
    late = 0
    for what, figure in found.items():
        budget = BUDGET.get(what)
        late += budget is not None and figure > budget
        print(f"{what:<55} {figure:9.1f} µs{f'   (budget {budget:.0f})' if budget else ''}")
    return 1 if arguments.check and late else 0


if __name__ == "__main__":
    sys.exit(main())
