"""Strategic merge patch, as the server applies it: lists merge by key or as sets where the type says so, and directives within the patch
replace, delete, retain and order.

The patch is walked beside the object and the type. A patch may be applied again when the object has changed meanwhile, so it is copied
first; the original is used up. The behaviour follows apimachinery's strategicpatch, whose faults and their words it raises: what is
malformed is BadRequest, what does not fit its list is Invalid or InternalError, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import orjson

from minikube_py.meta.errors import BadRequest, InternalError
from minikube_py.meta.quantity import number_text
from minikube_py.schema.definitions import Schema
from minikube_py.schema.model import Kind, Type

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE_FROM = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"
Obj = dict[str, Any]

_BAD_LIST = "invalid patch format of primitive list"
_BAD_RETAIN = "invalid patch format of retainKeys"
_BAD_ORDER = "invalid patch format of setElementOrder list"


def strategic_merge(schema: Schema, original: Obj, patch: Obj) -> Obj:
    """The object after the patch. Raises a StatusError for a patch that is malformed or does not fit."""
    return _merge_map(original, orjson.loads(orjson.dumps(patch)), schema.type)


def _merge_map(original: Obj, patch: Obj, type_: Type | None) -> Obj:
    if _PATCH in patch:
        directive = patch.pop(_PATCH)
        if directive == "replace":
            return patch
        if directive == "delete":
            return {}
        _unknown_directive(directive, patch)
    _retain_keys(original, patch)
    _apply_orders(original, patch, type_)
    for key, value in patch.items():
        deleting = key.startswith("$deleteFromPrimitiveList")
        if deleting:
            if not key.startswith(_DELETE_FROM):
                raise BadRequest(_BAD_LIST)
            key = key[len(_DELETE_FROM) :]
        if value is None:
            original.pop(key, None)
        elif key not in original:
            if not deleting:
                original[key] = _fresh(value, _field(type_, key))
        elif isinstance(value, dict) and isinstance(original[key], dict):
            field = _field(type_, key)
            original[key] = value if field and "replace" in field.strategies else _merge_map(original[key], value, field)
        elif isinstance(value, list) and isinstance(original[key], list):
            original[key] = _merge_list(original[key], value, _field(type_, key), deleting)
        else:
            original[key] = value
    return original


def _fresh(value: Any, type_: Type | None) -> Any:
    """A value that the object did not have, without the directives and nulls within it."""
    if isinstance(value, dict):
        return _merge_map({}, value, type_)
    if isinstance(value, list):
        items = type_.items if type_ else None
        return [_fresh(item, items) for item in value if not (isinstance(item, dict) and _PATCH in item)]
    return value


def _field(type_: Type | None, key: str) -> Type | None:
    """The type of a field or of a map's value; None where the type does not say."""
    if type_ is None:
        return None
    if type_.kind is Kind.STRUCT:
        return type_.struct.fields.get(key)
    return type_.items if type_.kind is Kind.MAP else None


def _retain_keys(original: Obj, patch: Obj) -> None:
    if _RETAIN not in patch:
        return
    retained = patch.pop(_RETAIN)
    if not isinstance(retained, list):
        raise BadRequest(_BAD_RETAIN)
    kept = {key for key in retained if isinstance(key, str)}
    for key, value in patch.items():
        if value is not None and not key.startswith(("$deleteFromPrimitiveList", "$setElementOrder")) and key not in kept:
            raise BadRequest(_BAD_RETAIN)
    for key in [key for key in original if key not in kept]:
        del original[key]


def _apply_orders(original: Obj, patch: Obj, type_: Type | None) -> None:
    """Merge the lists that the patch gives an order for, and put them into it: the patch's order first, the object's for the rest."""
    for directive in [key for key in patch if key.startswith("$setElementOrder")]:
        order = patch.pop(directive)
        if not isinstance(order, list):
            raise InternalError(f"expected a []interface {{}}, but received a {_go_type(order)}")
        if not directive.startswith(_ORDER):
            raise BadRequest(_BAD_ORDER)
        key = directive[len(_ORDER) :]
        current, wanted = original.get(key), patch.get(key)
        for value, present in ((current, key in original), (wanted, key in patch)):
            if present and not isinstance(value, list):
                raise InternalError(f"expected a []interface {{}}, but received a {_go_type(value)}")
        field = _field(type_, key)
        merge_key = field.merge_key if field else ""
        _check_order(wanted or [], order, merge_key)
        if key in original and key in patch:
            merged = _merge_list(list(current or ()), wanted or [], field, False)
        elif key in original or key in patch:
            merged = list(current or ()) if key in original else _fresh(wanted, field)
        else:
            continue
        patch.pop(key, None)
        listed, others = _partition(merged, order, merge_key)
        original[key] = _ordered(listed, others, order, current or [], merge_key)


def _check_order(wanted: list[Any], order: list[Any], merge_key: str) -> None:
    """The items of the patch must be in the order that it states."""
    if not wanted or not order:
        return
    items = [item for item in wanted if not (isinstance(item, dict) and _PATCH in item)]
    position = 0
    for entry in order:
        if position < len(items) and _identity(items[position], merge_key) == _identity(entry, merge_key):
            position += 1
    if position < len(items):
        raise InternalError(f"The order in patch list:\n{go_text(wanted)}\n doesn't match $setElementOrder list:\n{go_text(order)}\n")


def _merge_list(original: list[Any], patch: list[Any], field: Type | None, deleting: bool) -> list[Any]:
    if field is None or "merge" not in field.strategies:
        return patch
    if not original and not patch:
        return original
    if not _of_maps(original, patch):
        if deleting:
            deleted = set(patch)
            return [item for item in original if item not in deleted]
        merged = list(dict.fromkeys([*original, *patch]))
        listed, others = _partition(merged, patch, "")
        return _ordered(listed, others, patch, original, "")
    merge_key = field.merge_key
    if not merge_key:
        raise InternalError("cannot merge lists without merge key for type struct")
    original, patch = _apply_directives(original, patch, merge_key)
    before = list(original)
    merged = list(original)
    places = _places(merged, merge_key)
    for item in patch:
        identity = _identity(item, merge_key)
        if identity in places:
            merged[places[identity]] = _merge_map(merged[places[identity]], item, field.items)
        else:
            places[identity] = len(merged)
            merged.append(_fresh(item, field.items))
    listed, others = _partition(merged, patch, merge_key)
    return _ordered(listed, others, patch, before, merge_key)


def _apply_directives(original: list[Any], patch: list[Any], merge_key: str) -> tuple[list[Any], list[Any]]:
    """Carry out the items that delete or replace; gives what is left of both lists."""
    plain: list[Any] = []
    deleted: set[Any] = set()
    replace = False
    for item in patch:
        directive = item.get(_PATCH)
        if _PATCH not in item:
            plain.append(item)
        elif directive == "delete":
            deleted.add(_identity(item, merge_key))
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise InternalError("merging lists cannot yet be specified in the patch")
        else:
            _unknown_directive(directive, item)
    if replace:
        return plain, []
    return [item for item in original if merge_key not in item or _identity(item, merge_key) not in deleted], plain


def _partition(items: list[Any], by: Sequence[Any], merge_key: str) -> tuple[list[Any], list[Any]]:
    """Items that are in `by`, and the others."""
    known = {_identity(item, merge_key, required=False) for item in by}
    inside = [_identity(item, merge_key) in known for item in items]
    return [i for i, is_in in zip(items, inside, strict=True) if is_in], [i for i, is_in in zip(items, inside, strict=True) if not is_in]


def _ordered(listed: list[Any], others: list[Any], order: Sequence[Any], before: Sequence[Any], merge_key: str) -> list[Any]:
    """Both in one list: each in its own order, and interleaved as the object had them."""
    wanted, had = _places(order, merge_key), _places(before, merge_key)

    def place(item: Any, places: dict[Any, int]) -> int:
        return places.get(_identity(item, merge_key, required=False), -1)

    left = sorted(others, key=lambda item: place(item, had))
    right = sorted(listed, key=lambda item: place(item, wanted))
    out: list[Any] = []
    i = j = 0
    while i < len(left) and j < len(right):
        ours, theirs = place(left[i], had), place(right[j], had)
        if 0 <= ours < theirs:
            out.append(left[i])
            i += 1
        else:
            out.append(right[j])
            j += 1
    return out + left[i:] + right[j:]


def _places(items: Sequence[Any], merge_key: str) -> dict[Any, int]:
    """Where each item is first."""
    return {_identity(item, merge_key, required=False): index for index, item in reversed(list(enumerate(items)))}


def _identity(item: Any, merge_key: str, *, required: bool = True) -> Any:
    """A scalar itself, or the merge key's value of a map; what can be compared and hashed."""
    if not merge_key:
        return orjson.dumps(item) if isinstance(item, dict | list) else item
    if not isinstance(item, dict):
        raise InternalError(f"expected a map[string]interface {{}}, but received a {_go_type(item)}")
    if required and merge_key not in item:
        raise InternalError(f"map: {go_text(item)} does not contain declared merge key: {merge_key}")
    value = item.get(merge_key)
    return orjson.dumps(value) if isinstance(value, dict | list) else value


def _of_maps(*lists: list[Any]) -> bool:
    """Whether the items are maps. Raises where they differ or are lists."""
    kinds = {_go_type(item) for items in lists for item in items}
    if "[]interface {}" in kinds:
        raise BadRequest("lists of lists are not supported")
    if len(kinds) > 1:
        raise InternalError(f"list element types are not identical: {go_text(list(lists))}")
    return kinds == {"map[string]interface {}"}


def _unknown_directive(directive: Any, patch: Obj) -> NoReturn:
    raise InternalError(f"unknown patch type: {go_text(directive)} in map: {go_text(patch)}")


def go_text(value: Any) -> str:
    """A JSON value as Go's %v prints it: map[spec:map[replicas:3]]. Upstream's faults of patches show values so."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(go_text, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "<nil>", True: "true", False: "false"}[value]
    return number_text(value) if isinstance(value, float) else str(value)


def _go_type(value: Any) -> str:
    names = {str: "string", bool: "bool", int: "int64", float: "float64", dict: "map[string]interface {}", list: "[]interface {}"}
    return names.get(value.__class__, "<nil>")
