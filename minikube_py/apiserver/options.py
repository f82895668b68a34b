"""The options of a request, from its query (and, for deletions, its body), checked in upstream's words.

Values only: no clock, no store. What always holds: an option that is returned has been validated.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from minikube_py.meta.errors import BadRequest, Cause, StatusError, invalid

MAX_UINT64 = 2**64 - 1
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_UNIT = re.compile(r"[^0-9.]*")
_UNITS = frozenset({"ns", "us", "µs", "μs", "ms", "s", "m", "h"})


def boolean(query: Mapping[str, str], name: str) -> bool:
    """A query flag: anything but absence, "0" and "false" is true."""
    value = query.get(name)
    return value is not None and value.lower() not in ("0", "false")


def integer(query: Mapping[str, str], name: str) -> int | None:
    """An integer option, None where it is not given. Raises BadRequest as Go's strconv words it."""
    value = query.get(name)
    if not value:
        return None
    try:
        return int(value)
    except ValueError:
        raise BadRequest(f'strconv.ParseInt: parsing "{value}": invalid syntax') from None


def revision(text: str, field: str = "resourceVersion") -> int:
    """A resourceVersion as a number ("" is 0). Raises BadRequest."""
    try:
        return parse_revision(text)
    except ValueError as error:
        raise BadRequest(f'{field}: Invalid value: "{text}": {error}') from None


def parse_revision(text: str) -> int:
    """A resourceVersion as a number ("" is 0). Raises ValueError in Go's words."""
    if not text:
        return 0
    digits = text.isascii() and text.isdigit()
    if digits and (number := int(text)) <= MAX_UINT64:
        return number
    raise ValueError(f'strconv.ParseUint: parsing "{text}": {"value out of range" if digits else "invalid syntax"}')


def check_timeout(query: Mapping[str, str]) -> None:
    """Raises BadRequest where `timeout`, how long a client waits, is no duration, as Go's time.ParseDuration words it."""
    text = query.get("timeout")
    if text and (problem := _duration_fault(text)):
        raise BadRequest(f"invalid timeout specified in the request URL - time: {problem} {_quoted(text)}")


def _duration_fault(text: str) -> str:
    rest = text[1:] if text[0] in "+-" else text
    if rest == "0":
        return ""
    if not rest:
        return "invalid duration"
    while rest:
        number = _NUMBER.match(rest)
        if number is None:
            return "invalid duration"
        unit = _UNIT.match(rest, number.end())
        assert unit is not None
        if not unit[0]:
            return "missing unit in duration"
        if unit[0] not in _UNITS:
            return f"unknown unit {_quoted(unit[0])} in duration"
        rest = rest[unit.end() :]
    return ""


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def _options_error(kind: str, causes: list[Cause]) -> StatusError:
    return invalid(kind, "", causes, "meta.k8s.io")


def dry_run(value: str | None, kind: str) -> bool:
    """Whether dryRun asks for all stages without storing. Raises Invalid for any other value than All."""
    if not value:
        return False
    if value != "All":
        raise _options_error(kind, [Cause.not_supported("dryRun", value, ("All",))])
    return True


class WriteOptions(NamedTuple):
    """The options of a create, update or patch; `validation` is Ignore, Warn or Strict."""

    dry_run: bool
    manager: str
    validation: str


def write_options(query: Mapping[str, str], user_agent: str, kind: str) -> WriteOptions:
    """Options of a write; `kind` names them in errors (CreateOptions, …). Raises Invalid."""
    if not query:
        return WriteOptions(False, manager_of(user_agent), "Warn")
    causes = []
    manager = query.get("fieldManager", "")
    if len(manager) > 128:
        causes.append(Cause("FieldValueTooLong", "fieldManager", "Too long: may not be more than 128 bytes"))
    elif not manager.isprintable():
        causes.append(Cause.invalid("fieldManager", manager, "should only contain printable characters"))
    validation = query.get("fieldValidation") or "Warn"
    if validation not in ("Ignore", "Warn", "Strict"):
        causes.append(Cause.not_supported("fieldValidation", validation, ("", "Ignore", "Strict", "Warn")))
    dry = query.get("dryRun")
    if dry and dry != "All":
        causes.append(Cause.not_supported("dryRun", dry, ("All",)))
    if kind == "PatchOptions" and boolean(query, "force"):
        causes.append(Cause.forbidden("force", "may not be specified for non-apply patch"))
    if causes:
        raise _options_error(kind, causes)
    return WriteOptions(bool(dry), manager or manager_of(user_agent), validation)


def manager_of(user_agent: str) -> str:
    """The field manager that a user agent stands for: what precedes the first slash, in printable characters."""
    name = user_agent.split("/", 1)[0][:128]
    return (name if name.isprintable() else "".join(c for c in name if c.isprintable())) or "unknown"


class ListOptions(NamedTuple):
    """The options of a list or watch. `revision` is None where no resourceVersion was given (the most recent is wanted)."""

    labels: str
    fields: str
    limit: int
    token: str
    revision: int | None
    exact: bool
    bookmarks: bool
    initial_events: bool | None
    timeout: int


def list_options(query: Mapping[str, str], *, watch: bool) -> ListOptions:
    """Options of a list or watch. Raises BadRequest and Invalid."""
    match = query.get("resourceVersionMatch", "")
    text = query.get("resourceVersion", "")
    token = query.get("continue", "")
    limit = integer(query, "limit") or 0
    initial = boolean(query, "sendInitialEvents") if query.get("sendInitialEvents") else None
    causes = _watch_faults(match, initial, token) if watch else _list_faults(match, text, initial, token)
    if causes:
        raise _options_error("ListOptions", causes)
    number = revision(text) if text else None
    if token and number:
        raise BadRequest("specifying resource version is not allowed when using continue")
    exact = match == "Exact" or (not match and limit > 0 and bool(number) and not watch)
    return ListOptions(
        query.get("labelSelector", ""),
        query.get("fieldSelector", ""),
        max(limit, 0),
        token,
        number,
        exact,
        boolean(query, "allowWatchBookmarks"),
        initial,
        integer(query, "timeoutSeconds") or 0,
    )


_MATCH = "resourceVersionMatch"


def _list_faults(match: str, text: str, initial: bool | None, token: str) -> list[Cause]:
    causes = []
    if match:
        if not text:
            causes.append(Cause.forbidden(_MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if token:
            causes.append(Cause.forbidden(_MATCH, "resourceVersionMatch is forbidden when continue is provided"))
        if match not in ("Exact", "NotOlderThan"):
            causes.append(Cause.not_supported(_MATCH, match, ("Exact", "NotOlderThan", "")))
        if match == "Exact" and text == "0":
            causes.append(Cause.forbidden(_MATCH, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if initial is not None:
        causes.append(Cause.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return causes


def _watch_faults(match: str, initial: bool | None, token: str) -> list[Cause]:
    causes = []
    if initial is not None and match != "NotOlderThan":
        causes.append(Cause.forbidden(_MATCH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
    if match:
        if initial is None:
            causes.append(Cause.forbidden(_MATCH, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
        if match != "NotOlderThan":
            causes.append(Cause.not_supported(_MATCH, match, ("NotOlderThan",)))
        if token:
            causes.append(Cause.forbidden(_MATCH, "resourceVersionMatch is forbidden when continue is provided"))
    return causes


class Continue(NamedTuple):
    """Where a paginated list goes on: behind `start` (a key below the resource's prefix), as of `revision` (-1: as things are by then)."""

    revision: int
    start: str


def encode_continue(revision: int, start: str) -> str:
    """The opaque token of a continuation."""
    raw = orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start})
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_continue(token: str) -> Continue:
    """The continuation that a token stands for. Raises BadRequest."""
    try:
        value = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"continue key is not valid: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest("continue key is not valid: not an object")
    if value.get("v") != "meta.k8s.io/v1":
        raise BadRequest(f'continue key is not valid: server does not recognize this encoded version "{value.get("v")}"')
    number, start = value.get("rv"), value.get("start")
    if not isinstance(number, int) or isinstance(number, bool) or number == 0:
        raise BadRequest("continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    if not isinstance(start, str) or not start:
        raise BadRequest("continue key is not valid: encoded start key empty (version meta.k8s.io/v1)")
    return Continue(number, start)


class DeleteOptions(NamedTuple):
    """How to delete. `policy` is "", Orphan, Background or Foreground; `grace` None leaves it to the object."""

    dry_run: bool = False
    grace: int | None = None
    policy: str = ""
    uid: str = ""
    resource_version: str = ""
    accepted: bool = False
    """Whether the answer to a deletion that is not finished is 202 (the old orphanDependents=false)."""


def delete_options(query: Mapping[str, str], body: Mapping[str, Any] | None) -> DeleteOptions:
    """Options of a deletion from its body or, where that is empty, its query. Raises BadRequest, Invalid."""
    if body:
        kind = body.get("kind", "DeleteOptions")
        if kind != "DeleteOptions":
            raise BadRequest(f'{kind} in version "{body.get("apiVersion", "")}" cannot be handled as a DeleteOptions: unexpected kind')
        source = dict(body)
    else:
        source = {}
        if (grace := integer(query, "gracePeriodSeconds")) is not None:
            source["gracePeriodSeconds"] = grace
        if query.get("propagationPolicy"):
            source["propagationPolicy"] = query["propagationPolicy"]
        if query.get("orphanDependents"):
            source["orphanDependents"] = boolean(query, "orphanDependents")
        if query.get("dryRun"):
            source["dryRun"] = [query["dryRun"]]
    policy = _typed(source, "propagationPolicy", str)
    orphan = _typed(source, "orphanDependents", bool)
    grace = _typed(source, "gracePeriodSeconds", int)
    dry = _typed(source, "dryRun", list) or ([query["dryRun"]] if query.get("dryRun") else [])
    conditions = _typed(source, "preconditions", dict) or {}
    causes = []
    if policy and orphan is not None:
        causes.append(Cause.invalid("propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set"))
    if policy and policy not in ("Foreground", "Background", "Orphan"):
        causes.append(Cause.not_supported("propagationPolicy", policy, ("Background", "Foreground", "Orphan")))
    if any(stage != "All" for stage in dry):
        causes.append(Cause.not_supported("dryRun", dry, ("All",)))
    if causes:
        raise _options_error("DeleteOptions", causes)
    if orphan is not None:
        policy = "Orphan" if orphan else "Background"
    return DeleteOptions(
        bool(dry),
        1 if grace is not None and grace < 0 else grace,
        policy or "",
        _typed(conditions, "uid", str) or "",
        _typed(conditions, "resourceVersion", str) or "",
        orphan is False,
    )


def _typed(source: Mapping[str, Any], name: str, kind: type) -> Any:
    value = source.get(name)
    if value is None or (isinstance(value, kind) and (kind is not int or not isinstance(value, bool))):
        return value
    go = {str: "string", bool: "bool", int: "int64", list: "[]string", dict: "v1.Preconditions"}[kind]
    raise BadRequest(
        f'DeleteOptions in version "v1" cannot be handled as a DeleteOptions: json: cannot unmarshal into Go struct field '
        f"DeleteOptions.{name} of type {go}"
    )
