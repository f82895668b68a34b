"""Webhook configurations and admission policies. Upstream: pkg/apis/admissionregistration."""

from __future__ import annotations

from collections.abc import Sequence

from minikube_py.meta import names
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.rules import Faults
from minikube_py.resources.workloads import fill

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")


class WebhookConfigurationStrategy(Strategy):
    """Whom to ask before a write."""

    allow_unconditional_update = False

    def __init__(self, mutating: bool) -> None:
        self._mutating = mutating

    def default(self, obj: Obj) -> None:
        for webhook in obj.get("webhooks") or ():
            fill(webhook, failurePolicy="Fail", matchPolicy="Equivalent", namespaceSelector=dict, objectSelector=dict, timeoutSeconds=10)
            if self._mutating:
                fill(webhook, reinvocationPolicy="Never")
            service = (webhook.get("clientConfig") or {}).get("service")
            if service is not None and service.get("port") is None:
                service["port"] = 443
            _default_rules(webhook.get("rules") or ())

    def validate(self, obj: Obj) -> list[Cause]:
        taken: set[str] = set()
        found: list[Cause] = []
        for i, webhook in enumerate(obj.get("webhooks") or ()):
            path, name = f"webhooks[{i}]", webhook.get("name") or ""
            found += _webhook(path, webhook)
            if name in taken:
                found.append(Cause.duplicate(f"{path}.name", name))
            taken.add(name)
        return found


def _default_rules(given: Sequence[Obj]) -> None:
    for rule in given:
        if rule.get("scope") is None:
            rule["scope"] = "*"


def _webhook(path: str, webhook: Obj) -> Faults:
    name = webhook.get("name") or ""
    if not name:
        yield Cause.required(f"{path}.name")
    else:
        yield from rules.checked(f"{path}.name", name, names.dns1123_subdomain)
        if name.count(".") < 2:
            yield Cause.invalid(f"{path}.name", name, "should be a domain with at least three segments separated by dots")
    for i, rule in enumerate(webhook.get("rules") or ()):
        yield from _rule(f"{path}.rules[{i}]", rule)
    yield from rules.optional(f"{path}.failurePolicy", webhook.get("failurePolicy"), ("Fail", "Ignore"))
    yield from rules.optional(f"{path}.matchPolicy", webhook.get("matchPolicy"), ("Equivalent", "Exact"))
    effects = webhook.get("sideEffects")
    if effects is None:
        yield Cause.required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun")
    else:
        yield from rules.optional(f"{path}.sideEffects", effects, ("None", "NoneOnDryRun"))
    timeout = webhook.get("timeoutSeconds")
    if timeout is not None and not 1 <= timeout <= 30:
        yield Cause.invalid(f"{path}.timeoutSeconds", timeout, "the timeout value must be between 1 and 30 seconds")
    for field in ("namespaceSelector", "objectSelector"):
        yield from rules.selector(f"{path}.{field}", webhook.get(field))
    config = webhook.get("clientConfig") or {}
    if (config.get("url") is None) == (config.get("service") is None):
        yield Cause.required(f"{path}.clientConfig", "exactly one of url or service is required")
    elif config.get("url") is not None:
        if not config["url"].startswith("https://"):
            yield Cause.invalid(
                f"{path}.clientConfig.url", config["url"], "'https' is the only allowed URL scheme; desired format: https://host[/path]"
            )
    else:
        for field in ("name", "namespace"):
            if not config["service"].get(field):
                yield Cause.required(f"{path}.clientConfig.service.{field}", f"service {field} is required")
    versions = webhook.get("admissionReviewVersions") or ()
    if not versions:
        yield Cause.required(f"{path}.admissionReviewVersions", "must specify one of v1, v1beta1")
    elif not {"v1", "v1beta1"} & set(versions):
        yield Cause.invalid(f"{path}.admissionReviewVersions", list(versions), "must include at least one of v1, v1beta1")


def _rule(path: str, rule: Obj) -> Faults:
    for field in ("apiGroups", "apiVersions", "resources"):
        values = rule.get(field) or ()
        if not values:
            yield Cause.required(f"{path}.{field}")
        if len(values) > 1 and "*" in values and field != "resources":
            yield Cause.invalid(
                f"{path}.{field}",
                list(values),
                "if '*' is present, must not specify other " + {"apiGroups": "API groups", "apiVersions": "API versions"}[field],
            )
    operations = rule.get("operations") or ()
    if not operations:
        yield Cause.required(f"{path}.operations")
    if len(operations) > 1 and "*" in operations:
        yield Cause.invalid(f"{path}.operations", list(operations), "if '*' is present, must not specify other operations")
    for i, operation in enumerate(operations):
        if operation not in _OPERATIONS:
            yield Cause.not_supported(f"{path}.operations[{i}]", operation, _OPERATIONS)
    yield from rules.optional(f"{path}.scope", rule.get("scope"), _SCOPES)


class AdmissionPolicyStrategy(Strategy):
    """Rules in CEL about writes; the expressions themselves are compiled by whoever evaluates them."""

    def __init__(self, mutating: bool) -> None:
        self._mutating = mutating
        self.has_status = not mutating

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        fill(spec, failurePolicy="Fail")
        _default_match(spec.get("matchConstraints"))

    def validate(self, obj: Obj) -> list[Cause]:
        return list(_policy(obj["spec"], "mutations" if self._mutating else "validations"))

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        return [] if context.subresource == "status" else self.validate(obj)


def _default_match(given: Obj | None) -> None:
    if given is not None:
        fill(given, matchPolicy="Equivalent", namespaceSelector=dict, objectSelector=dict)
        for field in ("resourceRules", "excludeResourceRules"):
            _default_rules(given.get(field) or ())


def _policy(spec: Obj, field: str) -> Faults:
    yield from rules.optional("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore"))
    kind = spec.get("paramKind")
    if kind is not None:
        for part in ("apiVersion", "kind"):
            if not kind.get(part):
                yield Cause.required(f"spec.paramKind.{part}")
    match = spec.get("matchConstraints")
    if match is None:
        yield Cause.required("spec.matchConstraints")
    else:
        yield from _match("spec.matchConstraints", match)
        if not match.get("resourceRules"):
            yield Cause.required("spec.matchConstraints.resourceRules")
    if not spec.get(field) and not (field == "validations" and spec.get("auditAnnotations")):
        words = (
            "validations or auditAnnotations must contain at least one item"
            if field == "validations"
            else "mutations must contain at least one item"
        )
        yield Cause.required(f"spec.{field}", words)
    for i, rule in enumerate(spec.get("validations") or ()):
        if not (rule.get("expression") or "").strip():
            yield Cause.required(f"spec.validations[{i}].expression", "expression is not specified")


def _match(path: str, given: Obj) -> Faults:
    yield from rules.optional(f"{path}.matchPolicy", given.get("matchPolicy"), ("Equivalent", "Exact"))
    for field in ("namespaceSelector", "objectSelector"):
        yield from rules.selector(f"{path}.{field}", given.get(field))
    for field in ("resourceRules", "excludeResourceRules"):
        for i, rule in enumerate(given.get(field) or ()):
            yield from _rule(f"{path}.{field}[{i}]", rule)


class AdmissionPolicyBindingStrategy(Strategy):
    """Where a policy holds."""

    def __init__(self, mutating: bool) -> None:
        self._mutating = mutating

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        _default_match(spec.get("matchResources"))

    def validate(self, obj: Obj) -> list[Cause]:
        spec = obj["spec"]
        found = list(rules.named("spec.policyName", spec.get("policyName"), names.dns1123_subdomain))
        ref = spec.get("paramRef")
        if ref is not None:
            if bool(ref.get("name")) == (ref.get("selector") is not None):
                words = "one of name or selector must be specified" if not ref.get("name") else "name and selector are mutually exclusive"
                found.append(Cause.forbidden("spec.paramRef.name", words) if ref.get("name") else Cause.required("spec.paramRef", words))
            if ref.get("parameterNotFoundAction") is None:
                found.append(Cause.required("spec.paramRef.parameterNotFoundAction"))
            else:
                found += rules.optional("spec.paramRef.parameterNotFoundAction", ref["parameterNotFoundAction"], ("Allow", "Deny"))
        if spec.get("matchResources") is not None:
            found += _match("spec.matchResources", spec["matchResources"])
        if not self._mutating:
            actions = spec.get("validationActions") or ()
            if not actions:
                found.append(Cause.required("spec.validationActions", "at least one validation action is required"))
            for i, action in enumerate(actions):
                found += rules.optional(f"spec.validationActions[{i}]", action, ("Audit", "Deny", "Warn"))
            if "Deny" in actions and "Warn" in actions:
                found.append(
                    Cause.invalid(
                        "spec.validationActions",
                        list(actions),
                        "must not contain both Deny and Warn (repeating the same validation failure information in the API response and "
                        "headers serves no purpose)",
                    )
                )
        return found
