"""The tree of API errors: each is one metav1.Status with upstream's reason, code and message.

The API server raises them, the client raises them again from an answer's body, so that code above either sees the same exceptions
(https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#response-status-kind).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class StatusError(Exception):
    """An API error. `message` is what kubectl prints after "Error from server (Reason): "."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = ""

    def __init__(self, message: str, *, details: Mapping[str, Any] | None = None, metadata: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details) if details else None
        self.metadata = dict(metadata) if metadata else {}

    def status(self) -> dict[str, Any]:
        """The error as a metav1.Status object."""
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details:
            body["details"] = self.details
        body["code"] = self.code
        return body


class BadRequest(StatusError):
    """The request could not be understood (400)."""

    code, reason = 400, "BadRequest"


class Unauthorized(StatusError):
    """No valid identity (401)."""

    code, reason = 401, "Unauthorized"


class Forbidden(StatusError):
    """The identity may not do this, or admission refused it (403)."""

    code, reason = 403, "Forbidden"


class NotFound(StatusError):
    """No such object or resource (404)."""

    code, reason = 404, "NotFound"


class MethodNotAllowed(StatusError):
    """The resource does not have this verb (405)."""

    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(StatusError):
    """None of the asked media types can be served (406)."""

    code, reason = 406, "NotAcceptable"


class Conflict(StatusError):
    """The object is at another resourceVersion or uid than the request wants (409)."""

    code, reason = 409, "Conflict"


class AlreadyExists(StatusError):
    """A create of a name that is taken (409)."""

    code, reason = 409, "AlreadyExists"


class Expired(StatusError):
    """The resourceVersion or continue token is older than what is kept (410)."""

    code, reason = 410, "Expired"


class Gone(StatusError):
    """The thing is no longer to be had (410); older clients know this reason for what is now Expired."""

    code, reason = 410, "Gone"


class RequestEntityTooLarge(StatusError):
    """The body is over the limit (413)."""

    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(StatusError):
    """The body's media type is not understood (415)."""

    code, reason = 415, "UnsupportedMediaType"


class Invalid(StatusError):
    """The object breaks its schema or the kind's rules (422); details.causes says field by field."""

    code, reason = 422, "Invalid"


class TooManyRequests(StatusError):
    """Try again later (429); eviction answers it while a disruption budget is used up."""

    code, reason = 429, "TooManyRequests"


class InternalError(StatusError):
    """The server failed (500)."""

    code, reason = 500, "InternalError"


class ServiceUnavailable(StatusError):
    """Not ready, or a needed part is away (503)."""

    code, reason = 503, "ServiceUnavailable"


class Timeout(StatusError):
    """The request took too long (504)."""

    code, reason = 504, "Timeout"


_BY_REASON: Mapping[str, type[StatusError]] = {
    cls.reason: cls
    for cls in (
        BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, NotAcceptable, Conflict, AlreadyExists, Expired, Gone,
        RequestEntityTooLarge, UnsupportedMediaType, Invalid, TooManyRequests, InternalError, ServiceUnavailable, Timeout,
    )
}  # fmt: skip
_BY_CODE: Mapping[int, type[StatusError]] = {
    400: BadRequest, 401: Unauthorized, 403: Forbidden, 404: NotFound, 405: MethodNotAllowed, 406: NotAcceptable, 409: Conflict,
    410: Expired, 413: RequestEntityTooLarge, 415: UnsupportedMediaType, 422: Invalid, 429: TooManyRequests, 503: ServiceUnavailable,
    504: Timeout,
}  # fmt: skip


class Cause:
    """One field's fault inside an Invalid: `type` is upstream's cause type (FieldValueRequired, FieldValueInvalid, …)."""

    __slots__ = ("detail", "field", "type")

    def __init__(self, type: str, field: str, detail: str) -> None:
        self.type, self.field, self.detail = type, field, detail

    def __repr__(self) -> str:
        return f"{self.field}: {self.detail}"

    @classmethod
    def required(cls, field: str, detail: str = "") -> Cause:
        """A missing value, in upstream's words."""
        return cls("FieldValueRequired", field, "Required value" + (f": {detail}" if detail else ""))

    @classmethod
    def invalid(cls, field: str, value: object, detail: str) -> Cause:
        """A value that breaks a rule."""
        return cls("FieldValueInvalid", field, f"Invalid value: {_show(value)}: {detail}")

    @classmethod
    def forbidden(cls, field: str, detail: str) -> Cause:
        """A field that may not be set or changed here."""
        return cls("FieldValueForbidden", field, f"Forbidden: {detail}")

    @classmethod
    def duplicate(cls, field: str, value: object) -> Cause:
        """A value that must be unique and is not."""
        return cls("FieldValueDuplicate", field, f"Duplicate value: {_show(value)}")

    @classmethod
    def not_supported(cls, field: str, value: object, supported: Sequence[str]) -> Cause:
        """A value outside an enumeration."""
        listed = ", ".join(f'"{s}"' for s in supported)
        return cls("FieldValueNotSupported", field, f"Unsupported value: {_show(value)}: supported values: {listed}")

    @classmethod
    def not_found(cls, field: str, value: object) -> Cause:
        """A reference to something that is not there."""
        return cls("FieldValueNotFound", field, f"Not found: {_show(value)}")

    @classmethod
    def too_long(cls, field: str, limit: int) -> Cause:
        """A value over its greatest length, in bytes."""
        return cls("FieldValueTooLong", field, f"Too long: may not be more than {limit} bytes")

    @classmethod
    def type_invalid(cls, field: str, value: object, detail: str) -> Cause:
        """A value of the wrong JSON type."""
        return cls("FieldValueTypeInvalid", field, f"Invalid value: {_show(value)}: {detail}")


def _show(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, dict | list | tuple):
        import json

        return json.dumps(value, separators=(",", ":"))
    return str(value)


def not_found(plural: str, name: str, group: str = "") -> NotFound:
    """`pods "web" not found`, with details."""
    return NotFound(f'{qualified(plural, group)} "{name}" not found', details={"name": name, **_group(group), "kind": plural})


def already_exists(plural: str, name: str, group: str = "") -> AlreadyExists:
    """`pods "web" already exists`, with details."""
    return AlreadyExists(f'{qualified(plural, group)} "{name}" already exists', details={"name": name, **_group(group), "kind": plural})


def conflict(plural: str, name: str, why: str, group: str = "") -> Conflict:
    """`Operation cannot be fulfilled on pods "web": …`, with details."""
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return Conflict(message, details={"name": name, **_group(group), "kind": plural})


def precondition_failed(plural: str, name: str, key: str, what: str, wanted: str, found: str, group: str = "") -> Conflict:
    """The Conflict of a write that wants the object at `key` to have another uid or resourceVersion (`what`), in the words of upstream's
    storage."""
    why = f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
    storage = f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {why}"
    return conflict(plural, name, storage, group)


OBJECT_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def forbidden(plural: str, name: str, why: str, group: str = "") -> Forbidden:
    """`pods "web" is forbidden: …`, with details; a resource without a name is named alone."""
    subject = f'{qualified(plural, group)} "{name}"' if name else qualified(plural, group)
    return Forbidden(f"{subject} is forbidden: {why}", details={**({"name": name} if name else {}), **_group(group), "kind": plural})


def invalid(kind: str, name: str, causes: Sequence[Cause], group: str = "") -> Invalid:
    """`Pod "web" is invalid: spec.x: Required value`, with a cause per field."""
    listed = [f"{c.field}: {c.detail}" for c in causes]
    summary = listed[0] if len(listed) == 1 else "[" + ", ".join(listed) + "]"
    details: dict[str, Any] = {"name": name, **_group(group), "kind": kind}
    details["causes"] = [{"reason": c.type, "message": c.detail, "field": c.field} for c in causes]
    return Invalid(f'{qualified(kind, group)} "{name}" is invalid: {summary}', details=details)


def qualified(name: str, group: str) -> str:
    """A plural or kind with its group, as upstream prints it: deployments.apps."""
    return f"{name}.{group}" if group else name


def _group(group: str) -> dict[str, str]:
    return {"group": group} if group else {}


def from_status(status: Mapping[str, Any], code: int = 500) -> StatusError:
    """The exception that a Status body stands for; one without a known reason is told by its code."""
    code = int(status.get("code") or code)
    cls = _BY_REASON.get(str(status.get("reason") or "")) or _BY_CODE.get(code, InternalError if code >= 500 else BadRequest)
    return cls(str(status.get("message") or f"the server answered {code}"), details=status.get("details"), metadata=status.get("metadata"))
