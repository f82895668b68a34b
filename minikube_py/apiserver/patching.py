"""Patches: from a patch's bytes and the current object to the wanted one, in the version of the call. Pure functions.

Faults are upstream's: a patch that is no JSON is 400, one that cannot be applied is 422, and so is a result of the wrong types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from minikube_py.apiserver.decode import strict_faults
from minikube_py.apiserver.negotiate import JSON_PATCH, MERGE_PATCH
from minikube_py.meta import patch as patches
from minikube_py.meta.errors import BadRequest, Cause, Invalid, RequestEntityTooLarge, invalid
from minikube_py.resources.api import Obj
from minikube_py.schema import decode as bodies
from minikube_py.schema import merge
from minikube_py.schema.definitions import Schema
from minikube_py.schema.errors import SchemaError

MAX_OPERATIONS = 10_000


def patcher(media: str, body: bytes, schema: Schema, validation: str, warnings: list[str]) -> Callable[[Callable[[], Obj]], Obj]:
    """What applies a patch; the patch itself is read once, here. Raises BadRequest, RequestEntityTooLarge."""
    try:
        patch, duplicates = bodies.parse_json(body)
    except SchemaError as error:
        raise BadRequest(f"error decoding patch: {error}") from error
    if media == JSON_PATCH:
        if not isinstance(patch, list):
            raise BadRequest("error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp")
        if len(patch) > MAX_OPERATIONS:
            raise RequestEntityTooLarge(f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(patch)}")
        faults = [f'json patch duplicate field "{path}"' for path in duplicates]
    else:
        if not isinstance(patch, dict):
            kind = "array" if isinstance(patch, list) else "value"
            raise BadRequest(f"error decoding patch: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
        faults = strict_faults([], duplicates)

    def apply(read: Callable[[], Obj]) -> Obj:
        current = read()
        kind, api_version = current["kind"], current["apiVersion"]
        try:
            if media == JSON_PATCH:
                result: Any = patches.json_patch(current, patch)
            elif media == MERGE_PATCH:
                result = patches.merge_patch(current, patch)
            else:
                result = merge.strategic_merge(schema, current, patch)
        except SchemaError as error:
            raise Invalid(str(error)) from error
        if not isinstance(result, dict):
            raise _bad_result(result, f"json: cannot unmarshal {type(result).__name__} into Go value of type map[string]interface {{}}")
        if result.get("kind", kind) != kind or result.get("apiVersion", api_version) != api_version:
            given = f"{result.get('apiVersion')}, Kind={result.get('kind')}"
            raise BadRequest(f"the API version in the data ({given}) does not match the expected API version ({api_version}, Kind={kind})")
        result["kind"], result["apiVersion"] = kind, api_version
        try:
            unknown = schema.normalize(result)
        except SchemaError as error:
            raise _bad_result(result, str(error)) from error
        found = faults + strict_faults(unknown, [])
        if found and validation == "Strict":
            raise _bad_result(result, f"strict decoding error: {', '.join(found)}")
        if found and validation == "Warn":
            warnings.extend(f for f in found if f not in warnings)
        return result

    return apply


def _bad_result(result: Any, why: str) -> Invalid:
    return invalid("", "", [Cause.invalid("patch", orjson.dumps(result).decode(), why)])
