"""Certificate signing requests. Upstream: pkg/registry/certificates/certificates, pkg/apis/certificates/validation.

Who asks is what authentication says, never what the request says; what is asked never changes; approval, refusal and the certificate each
have their own way in.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.rules import Faults
from minikube_py.types.meta import timestamp

USAGES = frozenset(
    {
        "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only",
        "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement",
        "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping",
    }
)  # fmt: skip
_DECISIONS = ("Approved", "Denied")


class CertificateSigningRequestStrategy(Strategy):
    """A request for a certificate, with the identity of who asked."""

    has_status = True
    has_generation = False
    selectable_fields = {"spec.signerName": lambda csr: str((csr.get("spec") or {}).get("signerName") or "")}

    def prepare_create(self, obj: Obj, context: WriteContext) -> None:
        super().prepare_create(obj, context)
        spec, user = obj.setdefault("spec", {}), context.user
        spec["username"] = user.name
        for field, value in (("uid", user.uid), ("groups", list(user.groups)), ("extra", {k: list(v) for k, v in user.extra.items()})):
            if value:
                spec[field] = value
            else:
                spec.pop(field, None)

    def prepare_update(self, obj: Obj, old: Obj, context: WriteContext) -> None:
        status = dict(obj.get("status") or {})
        before = dict(old.get("status") or {})
        obj["spec"] = old["spec"]
        if context.subresource == "status":
            decided = {c.get("type"): c for c in before.get("conditions") or () if c.get("type") in _DECISIONS}
            if status.get("conditions"):
                status["conditions"] = [decided.get(c.get("type"), c) for c in status["conditions"]]
            obj["status"] = status
        elif context.subresource == "approval":
            obj["status"] = {**before, **({"conditions": status["conditions"]} if status.get("conditions") else {})}
        else:
            obj["status"] = before
        _stamp(obj["status"].get("conditions") or (), before.get("conditions") or (), context)

    def validate(self, obj: Obj) -> list[Cause]:
        return list(_request(obj.get("spec") or {}))

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        if not context.subresource:
            return []
        return list(_status(obj.get("status") or {}, old.get("status") or {}, context.subresource))


def _stamp(conditions: Any, before: Any, context: WriteContext) -> None:
    """When a condition was updated, and when its status changed."""
    known = {c.get("type"): c for c in before}
    now = timestamp(context.now)
    for condition in conditions:
        old = known.get(condition.get("type"))
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = now
        if not condition.get("lastTransitionTime"):
            same = old is not None and old.get("status") == condition.get("status")
            condition["lastTransitionTime"] = old.get("lastTransitionTime", now) if same and old else now


def _request(spec: Obj) -> Faults:
    usages = spec.get("usages") or ()
    if not usages:
        yield Cause.required("spec.usages", "usages must be provided")
    for i, usage in enumerate(usages):
        if usage not in USAGES:
            yield Cause.not_supported(f"spec.usages[{i}]", usage, sorted(USAGES))
        elif usage in usages[:i]:
            yield Cause.duplicate(f"spec.usages[{i}]", usage)
    signer = spec.get("signerName") or ""
    if signer == "kubernetes.io/legacy-unknown":
        yield Cause.invalid("spec.signerName", signer, "the legacy signerName is not allowed via this API version")
    elif not signer:
        yield Cause.required("spec.signerName")
    elif signer.count("/") != 1:
        yield Cause.invalid("spec.signerName", signer, "must be a fully qualified domain and path of the form 'example.com/signer-name'")
    if (seconds := spec.get("expirationSeconds")) is not None and seconds < 600:
        yield Cause.invalid("spec.expirationSeconds", seconds, "may not specify a duration less than 600 seconds (10 minutes)")
    yield from _pem("spec.request", spec.get("request") or "", "CERTIFICATE REQUEST", "PEM block type must be CERTIFICATE REQUEST")


def _pem(path: str, text: str, label: str, words: str) -> Faults:
    try:
        decoded = base64.b64decode(text).decode()
    except (binascii.Error, UnicodeDecodeError):
        decoded = ""
    if f"-----BEGIN {label}-----" not in decoded or f"-----END {label}-----" not in decoded:
        yield Cause.invalid(path, text, words)


def _status(status: Obj, before: Obj, subresource: str) -> Faults:
    conditions = status.get("conditions") or ()
    kinds = [c.get("type") for c in conditions]
    for i, condition in enumerate(conditions):
        path, kind = f"status.conditions[{i}]", condition.get("type") or ""
        if not kind:
            yield Cause.required(f"{path}.type")
        elif kind in kinds[:i]:
            yield Cause.duplicate(f"{path}.type", kind)
        yield from rules.one_of(f"{path}.status", condition.get("status"), ("False", "True", "Unknown"))
        if kind in ("Approved", "Denied", "Failed") and condition.get("status") in ("False", "Unknown"):
            yield Cause.not_supported(f"{path}.status", condition.get("status"), ("True",))
    if all(kind in kinds for kind in _DECISIONS):
        yield Cause.invalid("status.conditions", "Approved,Denied", "Approved and Denied conditions are mutually exclusive")
    had = {c.get("type") for c in before.get("conditions") or ()}
    for kind in (*_DECISIONS, "Failed"):
        if kind in had and kind not in kinds:
            yield Cause.forbidden("status.conditions", f'updates may not remove a condition of type "{kind}"')
        if subresource != "approval" and kind in _DECISIONS and kind in kinds and kind not in had:
            yield Cause.forbidden("status.conditions", f'updates may not add a condition of type "{kind}"')
    if before.get("certificate") and status.get("certificate") != before["certificate"]:
        yield Cause.forbidden("status.certificate", "updates may not modify existing certificate content")
    elif status.get("certificate") and not before.get("certificate"):
        yield from _pem("status.certificate", status["certificate"], "CERTIFICATE", "must contain PEM certificates")
