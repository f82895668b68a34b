"""ServiceAccount: every pod runs as a service account that exists, and finds its token, the cluster's CA and its namespace in a volume."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from minikube_py.apiserver.admission.base import Plugin, is_about, refusal
from minikube_py.apiserver.api import AdmissionRequest, Operation
from minikube_py.apiserver.cache import Cache
from minikube_py.apiserver.podreferences import is_mirror, pod_references
from minikube_py.meta.errors import Forbidden
from minikube_py.resources.api import Obj
from minikube_py.types.core import ServiceAccount

DEFAULT_ACCOUNT = "default"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607
"""An odd number on purpose: tokens that ask for it are known to be the ones of this plugin (and live longer than they say)."""
ENFORCE_ANNOTATION = "kubernetes.io/enforce-mountable-secrets"
_VOLUME = "kube-api-access"
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_ATTEMPTS, _PAUSE = 20, 0.05


def random_suffix() -> str:
    """Five characters, as upstream's generated names end."""
    return "".join(secrets.choice(_SUFFIX) for _ in range(5))


class ServiceAccountPlugin(Plugin):
    name = "ServiceAccount"
    resources = frozenset({("", "pods")})

    def __init__(self, cache: Cache, suffix: Callable[[], str] = random_suffix) -> None:
        self._accounts, self._suffix = cache.of(ServiceAccount.resource), suffix

    async def admit(self, request: AdmissionRequest) -> None:
        pod = request.object
        if pod is None or request.operation is not Operation.CREATE or request.subresource or not is_about(request, "", "pods"):
            return
        if is_mirror(pod):
            self._check_mirror(request, pod)
            return
        spec = pod.setdefault("spec", {})
        if not spec.get("serviceAccountName"):
            spec["serviceAccountName"] = DEFAULT_ACCOUNT
        # the field's old name says the same to old clients
        spec["serviceAccount"] = spec["serviceAccountName"]
        account = await self._account(request, spec["serviceAccountName"])
        if _automounts(spec, account):
            mount_token(spec, self._suffix)
        if not spec.get("imagePullSecrets") and account.imagePullSecrets:
            spec["imagePullSecrets"] = [{"name": reference.name} for reference in account.imagePullSecrets]

    async def validate(self, request: AdmissionRequest) -> None:
        pod = request.object
        if pod is None or not is_about(request, "", "pods"):
            return
        ephemeral = request.operation is Operation.UPDATE and request.subresource == "ephemeralcontainers"
        if not ephemeral and (request.operation is not Operation.CREATE or request.subresource):
            return
        if is_mirror(pod):
            self._check_mirror(request, pod)
            return
        name = pod.get("spec", {}).get("serviceAccountName")
        if not name:
            raise refusal(request, f"no service account specified for pod {request.namespace}/{request.name}")
        account = await self._account(request, name)
        if account.metadata.annotations.get(ENFORCE_ANNOTATION) in _TRUE:
            fault = _unmountable(pod["spec"], account, ephemeral)
            if fault:
                raise refusal(request, fault)

    def _check_mirror(self, request: AdmissionRequest, pod: Obj) -> None:
        references = {plural for plural, _ in pod_references(pod)}
        if "serviceaccounts" in references:
            raise refusal(request, "a mirror pod may not reference service accounts")
        if "secrets" in references:
            raise refusal(request, "a mirror pod may not reference secrets")
        for volume in pod.get("spec", {}).get("volumes") or ():
            if any("serviceAccountToken" in source for source in (volume.get("projected") or {}).get("sources") or ()):
                raise refusal(request, "a mirror pod may not use ServiceAccountToken volume projections")

    async def _account(self, request: AdmissionRequest, name: str) -> ServiceAccount:
        """The account; that of a namespace made just now may take a moment to appear."""
        for attempt in range(_ATTEMPTS if name == DEFAULT_ACCOUNT else 1):
            if attempt:
                await asyncio.sleep(_PAUSE)
            entry = self._accounts.get(request.namespace, name)
            if entry is not None:
                return entry.view(ServiceAccount)
        raise _missing(request, name)


def _missing(request: AdmissionRequest, name: str) -> Forbidden:
    return refusal(request, f'error looking up service account {request.namespace}/{name}: serviceaccount "{name}" not found')


def _automounts(spec: Obj, account: ServiceAccount) -> bool:
    wanted = spec.get("automountServiceAccountToken")
    if wanted is None:
        wanted = account.automountServiceAccountToken
    return wanted is not False


def mount_token(spec: Obj, suffix: Callable[[], str]) -> None:
    """Mount the access volume into every container that has nothing of its own at that path."""
    volumes = spec.get("volumes") or []
    existing = next((v["name"] for v in volumes if v.get("name", "").startswith(_VOLUME + "-")), None)
    name = existing or f"{_VOLUME}-{suffix()}"
    needed = False
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            mounts = container.get("volumeMounts") or []
            if not any(mount.get("mountPath") == TOKEN_PATH for mount in mounts):
                container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}]
                needed = True
    if needed and existing is None:
        spec["volumes"] = [*volumes, {"name": name, "projected": token_volume()}]


def token_volume() -> Obj:
    """The sources of the access volume."""
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ],
        "defaultMode": 420,
    }


def _unmountable(spec: Obj, account: ServiceAccount, ephemeral: bool) -> str:
    """What uses a secret that the account does not list, in words; "" for nothing."""
    allowed = {reference.name for reference in account.secrets}
    who = f"is not allowed because service account {account.metadata.name} does not reference that"
    if ephemeral:
        return _unmountable_containers(spec.get("ephemeralContainers") or (), "ephemeral container", allowed, who)
    for volume in spec.get("volumes") or ():
        secret = (volume.get("secret") or {}).get("secretName")
        if secret is not None and secret not in allowed:
            return f'volume with secret.secretName="{secret}" {who} secret'
    for kind, word in (("initContainers", "init container"), ("containers", "container")):
        if fault := _unmountable_containers(spec.get(kind) or (), word, allowed, who):
            return fault
    pullable = {reference.name for reference in account.imagePullSecrets}
    for index, reference in enumerate(spec.get("imagePullSecrets") or ()):
        if reference.get("name", "") not in pullable:
            return f'imagePullSecrets[{index}].name="{reference.get("name", "")}" {who} imagePullSecret'
    return ""


def _unmountable_containers(containers: Any, word: str, allowed: set[str], who: str) -> str:
    for container in containers:
        for variable in container.get("env") or ():
            secret = ((variable.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name")
            if secret is not None and secret not in allowed:
                return f'{word} {container["name"]} with envVar {variable["name"]} referencing secret.secretName="{secret}" {who} secret'
        for source in container.get("envFrom") or ():
            secret = (source.get("secretRef") or {}).get("name")
            if secret is not None and secret not in allowed:
                return f'{word} {container["name"]} with envFrom referencing secret.secretName="{secret}" {who} secret'
    return ""
