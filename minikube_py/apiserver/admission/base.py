"""What all admission plugins share."""

from __future__ import annotations

from minikube_py.apiserver.api import AdmissionRequest
from minikube_py.meta.errors import Forbidden, forbidden


class Plugin:
    """A plugin that lets everything through; plugins override the phase that they are about."""

    name = ""

    resources: frozenset[tuple[str, str]] | None = None
    """The (group, plural) whose writes, subresources included, the plugin has to do with; None for all."""

    async def admit(self, request: AdmissionRequest) -> None:
        """Mutating phase."""

    async def validate(self, request: AdmissionRequest) -> None:
        """Validating phase."""


def is_about(request: AdmissionRequest, group: str, plural: str) -> bool:
    """Whether a request is about this resource or a subresource of it."""
    ref = request.resource.ref
    return ref.plural == plural and ref.group == group


def refusal(request: AdmissionRequest, why: str) -> Forbidden:
    """The error of a plugin that does not let a request through: `pods "web" is forbidden: …`."""
    ref = request.resource.ref
    return forbidden(ref.plural, request.name, why, ref.group)
