"""Evictions: deletions of pods that disruption budgets may refuse for a while (429), POSTed to pods/NAME/eviction."""

from __future__ import annotations

from typing import Any

from minikube_py.aio import Clock
from minikube_py.apiserver import answers, options
from minikube_py.apiserver.api import AdmissionRequest, Operation, Response
from minikube_py.apiserver.cache import Cache, Entry
from minikube_py.apiserver.call import Call
from minikube_py.apiserver.decode import decode
from minikube_py.apiserver.delete import Deleter
from minikube_py.apiserver.objectmeta import metadata_of
from minikube_py.apiserver.options import DeleteOptions, write_options
from minikube_py.apiserver.write import Writer
from minikube_py.meta import selectors
from minikube_py.meta.errors import BadRequest, Forbidden, InternalError, TooManyRequests
from minikube_py.resources.api import Obj, Resource
from minikube_py.schema import definitions
from minikube_py.types.meta import ResourceRef, timestamp

EVICTION = ResourceRef("policy", "v1", "evictions", "Eviction")
_MAX_DISRUPTED = 2000


class Evictions:
    """Serves pods/eviction. `budgets` is the resource of PodDisruptionBudgets."""

    def __init__(self, cache: Cache, writer: Writer, deleter: Deleter, budgets: Resource, clock: Clock) -> None:
        self._cache, self._writer, self._deleter, self._budgets, self._clock = cache, writer, deleter, budgets, clock

    async def __call__(self, call: Call) -> Response:
        request, info = call.request, call.info
        loaded = definitions.load()
        written = write_options(request.query, call.user_agent, "CreateOptions")
        schema = loaded.schema(EVICTION.group, EVICTION.version, EVICTION.kind)
        content_type = request.headers.get("content-type", "")
        eviction = decode(request.body, content_type, EVICTION, loaded, schema, written.validation, call.warnings)
        name = metadata_of(eviction).get("name")
        if name and name != info.name:
            raise BadRequest("name in URL does not match name in Eviction object")
        wanted = options.delete_options({}, {**(eviction.get("deleteOptions") or {}), "kind": "DeleteOptions"})
        if written.dry_run:
            wanted = wanted._replace(dry_run=True)
        pod = self._cache.of(call.resource).get(info.namespace, info.name)
        if pod is None:
            raise call.missing()
        admission = AdmissionRequest(
            Operation.CREATE, call.resource, "eviction", info.namespace, info.name, eviction, None, request.user, wanted.dry_run
        )
        await self._writer.admit(admission)
        obj = pod.decode()
        if not unguarded(obj):
            await self._spend(call, obj, wanted)
        wanted = wanted._replace(uid=wanted.uid or pod.uid)
        await self._deleter.remove(call, info.namespace, info.name, wanted)
        return answers.json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)

    async def _spend(self, call: Call, pod: Obj, wanted: DeleteOptions) -> None:
        """Take one disruption from the pod's budget, if it has one. Raises TooManyRequests, InternalError for more than one."""
        namespace, name = call.info.namespace, call.info.name
        labels = pod["metadata"].get("labels") or {}
        guarding = [budget for budget in self._cache.of(self._budgets).entries(namespace) if guards(budget, labels)]
        if not guarding:
            return
        if len(guarding) > 1:
            why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise InternalError(f"Internal error occurred: {why}")
        budget = guarding[0].decode()
        spec, status = budget.get("spec") or {}, budget.get("status") or {}
        if not is_ready(pod):
            healthy = (status.get("currentHealthy") or 0) >= (status.get("desiredHealthy") or 0) and (status.get("desiredHealthy") or 0) > 0
            if spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow" or healthy:
                return
        if wanted.dry_run:
            take(budget, name, timestamp(self._clock.time()))
            return
        ref = self._budgets.ref
        info = call.info._replace(group=ref.group, version=ref.version, resource=ref.plural, subresource="", name=guarding[0].name)
        target = Call(call.request, info, self._budgets, ref)
        await self._writer.swap(target, lambda current: take(current, name, timestamp(self._clock.time())))


def unguarded(pod: Obj) -> bool:
    """Pods whose eviction no budget can refuse: those that are done, being deleted, or not started."""
    return bool(pod["metadata"].get("deletionTimestamp")) or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed", "Pending")


def is_ready(pod: Obj) -> bool:
    """The pod's Ready condition."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def guards(budget: Entry, labels: dict[str, Any]) -> bool:
    """Whether a budget is about pods with these labels."""
    selector = (budget.decode().get("spec") or {}).get("selector")
    return selector is not None and selectors.matches(selector, labels)


def take(budget: Obj, pod: str, now: str) -> Obj:
    """The budget with one disruption less. Raises TooManyRequests, Forbidden."""
    name = budget["metadata"]["name"]
    status = budget.setdefault("status", {})
    if (status.get("observedGeneration") or 0) < (budget["metadata"].get("generation") or 0):
        raise _later(f"The disruption budget {name} is still being processed by the server.", name)
    allowed = status.get("disruptionsAllowed") or 0
    if allowed < 0:
        raise Forbidden("pdb disruptions allowed is negative", details={"name": name, "group": "policy", "kind": "poddisruptionbudget"})
    if len(status.get("disruptedPods") or {}) > _MAX_DISRUPTED:
        raise Forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller")
    if allowed == 0:
        desired, current = status.get("desiredHealthy") or 0, status.get("currentHealthy") or 0
        raise _later(f"The disruption budget {name} needs {desired} healthy pods and has {current} currently", name, 0)
    status["disruptionsAllowed"] = allowed - 1
    if allowed == 1:
        for condition in status.get("conditions") or ():
            if condition.get("type") == "DisruptionAllowed" and condition.get("status") != "False":
                condition.update({"status": "False", "reason": "InsufficientPods", "lastTransitionTime": now})
    status.setdefault("disruptedPods", {})[pod] = now
    return budget


def _later(why: str, budget: str, seconds: int = 10) -> TooManyRequests:
    details: dict[str, Any] = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    if seconds:
        details["retryAfterSeconds"] = seconds
    return TooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", details=details)
