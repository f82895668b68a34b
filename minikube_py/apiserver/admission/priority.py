"""Priority: a pod's number comes from its PriorityClass, never from its author; at most one class is the default."""

from __future__ import annotations

from minikube_py.apiserver.admission.base import Plugin, is_about, refusal
from minikube_py.apiserver.api import AdmissionRequest, Operation
from minikube_py.apiserver.cache import Cache
from minikube_py.types.core import PriorityClass

PREEMPT = "PreemptLowerPriority"


class Priority(Plugin):
    name = "Priority"
    resources = frozenset({("", "pods"), ("scheduling.k8s.io", "priorityclasses")})

    def __init__(self, cache: Cache) -> None:
        self._classes = cache.of(PriorityClass.resource)
        self._default: PriorityClass | None = None
        self._revision = -1

    async def admit(self, request: AdmissionRequest) -> None:
        if request.subresource or request.object is None or not is_about(request, "", "pods"):
            return
        spec = request.object.setdefault("spec", {})
        if request.operation is Operation.UPDATE and request.old is not None:
            before = request.old.get("spec", {})
            for field in ("priority", "preemptionPolicy"):
                if spec.get(field) is None and before.get(field) is not None:
                    spec[field] = before[field]
        elif request.operation is Operation.CREATE:
            self._set(request, spec)

    async def validate(self, request: AdmissionRequest) -> None:
        if request.subresource or request.object is None or not is_about(request, "scheduling.k8s.io", "priorityclasses"):
            return
        current = self.default()
        if not request.object.get("globalDefault") or current is None:
            return
        name = current.metadata.name
        if request.operation is Operation.CREATE or (request.operation is Operation.UPDATE and name != request.name):
            raise refusal(request, f"PriorityClass {name} is already marked as default. Only one default can exist")

    def _set(self, request: AdmissionRequest, spec: dict[str, object]) -> None:
        chosen = spec.get("priorityClassName")
        if chosen:
            entry = self._classes.get("", str(chosen))
            if entry is None:
                raise refusal(request, f"no PriorityClass with name {chosen} was found")
            found: PriorityClass | None = entry.view(PriorityClass)
        else:
            found = self.default()
        value, policy = 0, PREEMPT
        if found is not None:
            spec["priorityClassName"] = found.metadata.name
            value, policy = found.value, found.preemptionPolicy
        given = spec.get("priority")
        if given is not None and given != value:
            raise refusal(
                request,
                f"the integer value of priority ({given}) must not be provided in pod spec; "
                f"priority admission controller computed {value} from the given PriorityClass name",
            )
        spec["priority"] = value
        if policy:
            wanted = spec.get("preemptionPolicy")
            if wanted is not None and wanted != policy:
                raise refusal(
                    request,
                    f"the string value of PreemptionPolicy ({wanted}) must not be provided in pod spec; "
                    f"priority admission controller computed {policy} from the given PriorityClass name",
                )
            spec["preemptionPolicy"] = policy

    def default(self) -> PriorityClass | None:
        """The class of pods that name none: of several (a race made them) the lowest."""
        if self._classes.revision != self._revision:
            views = [entry.view(PriorityClass) for entry in self._classes.entries()]
            self._default = min((view for view in views if view.globalDefault), key=lambda view: view.value, default=None)
            self._revision = self._classes.revision
        return self._default
