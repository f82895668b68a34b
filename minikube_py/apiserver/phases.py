"""The two phases of admission, as a write meets them: the plugins in their order, without those that have nothing to say to it.

Why: most plugins are about one kind and one phase, and asking each of them about every write costs more than what they do. Which plugins a
write meets depends on its resource alone, so it is found out once for each. What always holds: the order is the tuple's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from minikube_py.apiserver.admission.base import Plugin
from minikube_py.apiserver.api import AdmissionPlugin, AdmissionRequest

Step = Callable[[AdmissionRequest], Awaitable[None]]


class Phases:
    """Asks the plugins. What they raise goes to the caller."""

    def __init__(self, plugins: Sequence[AdmissionPlugin]) -> None:
        self._plugins = tuple(plugins)
        self._mutating: dict[tuple[str, str], tuple[Step, ...]] = {}
        self._validating: dict[tuple[str, str], tuple[Step, ...]] = {}

    async def admit(self, request: AdmissionRequest) -> None:
        """The mutating phase."""
        ref = request.resource.ref
        steps = self._mutating.get((ref.group, ref.plural))
        if steps is None:
            steps = self._mutating[ref.group, ref.plural] = self._concerned(request, "admit")
        for step in steps:
            await step(request)

    async def validate(self, request: AdmissionRequest) -> None:
        """The validating phase."""
        ref = request.resource.ref
        steps = self._validating.get((ref.group, ref.plural))
        if steps is None:
            steps = self._validating[ref.group, ref.plural] = self._concerned(request, "validate")
        for step in steps:
            await step(request)

    def _concerned(self, request: AdmissionRequest, phase: str) -> tuple[Step, ...]:
        ref = request.resource.ref
        return tuple(getattr(plugin, phase) for plugin in self._plugins if concerns(plugin, phase, ref.group, ref.plural))


def concerns(plugin: AdmissionPlugin, phase: str, group: str, plural: str) -> bool:
    """Whether a plugin has anything to do in a phase with a write of this resource."""
    if not isinstance(plugin, Plugin):
        return True
    if getattr(type(plugin), phase) is getattr(Plugin, phase):
        return False
    return plugin.resources is None or (group, plural) in plugin.resources
