"""Answers that are made in many places: a Status, a JSON value, and the head of a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from minikube_py.apiserver.api import Response
from minikube_py.meta.errors import StatusError


def failure(error: StatusError) -> Response:
    """An error as a metav1.Status; where its details ask to try again later, the header says so too."""
    status = error.status()
    seconds = (status.get("details") or {}).get("retryAfterSeconds")
    headers = {"Retry-After": str(seconds)} if seconds else {}
    return Response(status["code"], orjson.dumps(status), headers=headers)


def json(value: Any, status: int = 200, headers: Mapping[str, str] = {}) -> Response:
    """A JSON answer."""
    return Response(status, orjson.dumps(value), headers=headers)


def text(value: str, status: int = 200) -> Response:
    """A plain text answer."""
    return Response(status, value.encode(), content_type="text/plain; charset=utf-8")


def success(details: Mapping[str, Any], status: int = 200) -> Response:
    """Status Success, with details of what it was done to."""
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": dict(details)}
    return Response(status, orjson.dumps(body))


def warning_header(warnings: Sequence[str]) -> dict[str, str]:
    """Warnings as one Warning header (RFC 7234, code 299), each given once; client-go and kubectl read the list."""
    if not warnings:
        return {}
    quoted = []
    for text in dict.fromkeys(warnings):
        clean = "".join(c if c.isprintable() else " " for c in text).replace("\\", "\\\\").replace('"', '\\"')
        quoted.append(f'299 - "{clean}"')
    return {"Warning": ", ".join(quoted)}
