"""Has a container's image present, by its pull policy, with back-off for what cannot be pulled.

Pulls of the same image for several containers are one pull. Errors bear the waiting reason that the container shows.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from minikube_py.aio import Clock, cancel
from minikube_py.cri import errors
from minikube_py.cri.client import CriClient
from minikube_py.cri.v1 import api_pb2 as v1
from minikube_py.kubelet.containers import ImageUser
from minikube_py.kubelet.keyring import Credential, lookup
from minikube_py.kubelet.plan import duration
from minikube_py.kubelet.pullrecords import PullRecords
from minikube_py.kubelet.restarts import BackoffTable
from minikube_py.types.core import Secret
from minikube_py.types.pod import Container, Pod

_SHOWN_SECONDS = 3.0
"""How long a container shows why the pull failed before it shows that it is tried again later."""

Say = Callable[[str, str, str], None]
"""Records an event: type, reason, message."""


_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?!(?:[a-f0-9]{{64}})$)(?:(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?{_PART}(?:/{_PART})*"
    r"(?::\w[\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
"""What an image may be called: the grammar of the distribution project's references."""


class ImageError(Exception):
    """The image cannot be had now; `reason` is the container's waiting reason, `again_after` the seconds until it may be tried again."""

    def __init__(self, reason: str, message: str, again_after: float = 10.0) -> None:
        super().__init__(message)
        self.reason, self.again_after = reason, again_after


class _Pulled(NamedTuple):
    reference: str
    image: Any
    seconds: float


class _PullFailed(Exception):
    """Every credential has failed; the text is what the runtime said."""


class Images:
    """The node's images, as far as pods need them."""

    def __init__(self, cri: CriClient, clock: Clock, records: PullRecords, parallel: int) -> None:
        self._cri, self._clock, self._records = cri, clock, records
        self._turn = asyncio.Semaphore(parallel)
        self._backoff = BackoffTable()
        self._failures: dict[str, str] = {}
        self._pulls: dict[tuple[str, str], asyncio.Task[_Pulled]] = {}

    async def ensure(self, pod: Pod, container: Container, secrets: Iterable[Secret], say: Say) -> tuple[str, ImageUser]:
        """The reference to run the image by, and whom it runs as. Raises ImageError."""
        try:
            name = with_tag(container.image)
        except ValueError as error:
            message = f'Failed to apply default image tag "{container.image}": {error}'
            say("Warning", "InspectFailed", message)
            say("Warning", "Failed", "Error: InvalidImageName")
            raise ImageError("InvalidImageName", message, 300.0) from error
        image = await self._present(name)
        policy = container.imagePullPolicy or "IfNotPresent"
        found = lookup(secrets, name)
        usable = image is not None and policy != "Always" and not await asyncio.to_thread(self._records.must_pull, name, image.id, found)
        if policy == "Never" and not usable:
            # one that may not be used does not show that it is there
            message = f'Container image "{container.image}" is not present with pull policy of Never'
            say("Warning", "ErrImageNeverPull", message)
            raise ImageError("ErrImageNeverPull", message)
        if image is not None and usable:
            say("Normal", "Pulled", f'Container image "{container.image}" already present on machine and can be accessed by the pod')
            return image.id, _user(image)
        key = f"{pod.metadata.uid}_{name}"
        remaining = self._backoff.remaining_since_update(key, self._clock.time())
        if remaining > 0:
            message = f'Back-off pulling image "{container.image}"'
            say("Normal", "BackOff", message)
            if failure := self._failures.get(key):
                message += f": {failure}"
            say("Warning", "Failed", "Error: ImagePullBackOff")
            raise ImageError("ImagePullBackOff", message, remaining)
        say("Normal", "Pulling", f'Pulling image "{container.image}"')
        started = self._clock.monotonic()
        try:
            pulled = await self._pull(name, found)
        except _PullFailed as error:
            say("Warning", "Failed", f'Failed to pull image "{container.image}": {error}')
            say("Warning", "Failed", "Error: ErrImagePull")
            now = self._clock.time()
            self._backoff.next(key, now, now)
            self._failures[key] = f"ErrImagePull: {error}"
            raise ImageError("ErrImagePull", str(error), _SHOWN_SECONDS) from error
        self._failures.pop(key, None)
        took, altogether = duration_ms(pulled.seconds), duration_ms(self._clock.monotonic() - started)
        image = pulled.image
        size = image.size if image is not None else 0
        message = f'Successfully pulled image "{container.image}" in {took} ({altogether} including waiting). Image size: {size} bytes.'
        say("Normal", "Pulled", message)
        return (image.id if image is not None else pulled.reference), _user(image)

    def forget(self, image: str) -> None:
        """The image was removed."""
        self._records.forget(image)

    async def close(self) -> None:
        """Give pulls up."""
        await cancel(*self._pulls.values())

    def release(self, uid: str) -> None:
        """The pod is gone: forget its failures."""
        self._backoff.forget(uid + "_")
        for key in [k for k in self._failures if k.startswith(uid + "_")]:
            del self._failures[key]

    async def _present(self, name: str) -> Any:
        try:
            return await self._cri.image_status(name)
        except errors.InvalidArgument as error:
            raise ImageError("InvalidImageName", f'Failed to apply default image tag "{name}": {error}', 300.0) from error
        except errors.CriError as error:
            raise ImageError("ImageInspectError", f'Failed to inspect image "{name}": {error}') from error

    async def _pull(self, name: str, credentials: Sequence[Credential]) -> _Pulled:
        """Pull with one credential after the other. Raises _PullFailed."""
        failures: dict[str, None] = {}
        for credential in credentials or (None,):
            key = (name, credential.digest if credential is not None else "")
            task = self._pulls.get(key)
            if task is None:
                task = self._pulls[key] = asyncio.create_task(self._pull_in_turn(name, credential), name=f"pull {name}")
                task.add_done_callback(partial(self._ended, key))
            try:
                return await asyncio.shield(task)
            except errors.CriError as error:
                failures[error.status_text] = None
            except OSError as error:
                failures[f"failed to record image pull intent: {error}"] = None
        raise _PullFailed(next(iter(failures)) if len(failures) == 1 else f"[{', '.join(failures)}]")

    async def _pull_in_turn(self, name: str, credential: Credential | None) -> _Pulled:
        auth = None
        if credential is not None:
            auth = v1.AuthConfig(username=credential.username, password=credential.password, identity_token=credential.identity_token)
        async with self._turn:
            # whoever waits for it may be gone before it ends: the pull itself says who may use the image
            await asyncio.to_thread(self._records.begin, name)
            try:
                began = self._clock.monotonic()
                reference = await self._cri.pull_image(name, auth)
                took = self._clock.monotonic() - began
                image = await self._cri.image_status(reference) or await self._cri.image_status(name)
                await asyncio.to_thread(self._records.pulled, name, image.id if image is not None else reference, credential)
            finally:
                await asyncio.to_thread(self._records.end, name)
            return _Pulled(reference, image, took)

    def _ended(self, key: tuple[str, str], task: asyncio.Task[_Pulled]) -> None:
        self._pulls.pop(key, None)
        if not task.cancelled():
            task.exception()  # the waiters, if any are left, have it


def with_tag(image: str) -> str:
    """The name with `:latest` where it has neither tag nor digest. Raises ValueError for what cannot be the name of an image."""
    if not _REFERENCE.fullmatch(image):
        repository = (image if "/" in image else f"library/{image}").partition("@")[0]
        mixed = repository.partition(":")[0] != repository.partition(":")[0].lower()
        why = f": repository name ({repository}) must be lowercase" if mixed else ""
        raise ValueError(f'couldn\'t parse image reference "{image}": invalid reference format{why}')
    last = image.rpartition("/")[2]
    return image if "@" in image or ":" in last else f"{image}:latest"


def _user(image: Any) -> ImageUser:
    if image is None:
        return ImageUser()
    if image.HasField("uid"):
        return ImageUser(uid=image.uid.value)
    return ImageUser(name=image.username)


def duration_ms(seconds: float) -> str:
    """A short time span as Go prints it: 812ms, 1.204s, 2m3.5s."""
    if seconds < 1:
        return f"{int(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    return duration(seconds)
