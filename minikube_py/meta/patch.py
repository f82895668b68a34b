"""JSON patches (RFC 6902) and JSON merge patches (RFC 7386) on decoded values.

A patch may be applied again when the object has changed meanwhile, so it is never changed, and no result shares a part with it; the
original is used up. Faults are upstream's: whatever goes wrong while a JSON patch is applied is one 422 without a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from minikube_py.meta.errors import BadRequest, Invalid

MAX_COPIED = 3 * 1024 * 1024
"""Bytes that the copy operations of one patch may add up to."""

REJECTED = "the server rejected our request due to an error in our request"


def json_patch(original: Any, operations: Sequence[Any]) -> Any:
    """The value after all operations; `original` is used up. Raises BadRequest for what is not a patch, Invalid for one that does not
    fit."""
    import jsonpatch  # 30 ms, needed by few
    import jsonpointer

    if not isinstance(operations, list):
        raise BadRequest("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    for operation in operations:
        if not isinstance(operation, dict):
            raise BadRequest("json: cannot unmarshal array into Go value of type jsonpatch.Operation")
    steps: list[Any] = orjson.loads(orjson.dumps(operations))
    # Without copies a patch cannot make more than it brings; with them it doubles with each step.
    batches = [[step] for step in steps] if any(step.get("op") == "copy" for step in steps) else [steps]
    copied = 0
    value = original
    try:
        for batch in batches:
            if batch and batch[0].get("op") == "copy":
                copied += len(orjson.dumps(jsonpointer.resolve_pointer(value, batch[0]["from"])))
                if copied > MAX_COPIED:
                    raise Invalid(REJECTED)
            value = jsonpatch.JsonPatch(batch).apply(value, in_place=True)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise Invalid(REJECTED) from error
    except (TypeError, KeyError, IndexError, ValueError, AttributeError, RecursionError) as error:  # operations on values without parts
        raise Invalid(REJECTED) from error
    return value


def merge_patch(original: Any, patch: Any) -> Any:
    """The original with the patch's fields: null removes, objects merge, everything else replaces. `original` is used up."""
    return _merge(original, orjson.loads(orjson.dumps(patch)))


def _merge(original: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    if not isinstance(original, dict):
        original = {}
    for key, value in patch.items():
        if value is None:
            original.pop(key, None)
        elif isinstance(value, dict):
            original[key] = _merge(original.get(key), value)
        else:
            original[key] = value
    return original
