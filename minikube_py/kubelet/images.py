"""Has a container's image present, by its pull policy, with back-off for what cannot be pulled.

Pulls of the same image for several containers are one pull. Errors bear the waiting reason that the container shows.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import orjson

from minikube_py.aio import Clock, cancel
from minikube_py.cri import errors
from minikube_py.cri.client import CriClient
from minikube_py.cri.v1 import api_pb2 as v1
from minikube_py.kubelet.containers import ImageUser
from minikube_py.kubelet.plan import duration
from minikube_py.kubelet.restarts import BackoffTable
from minikube_py.types.core import Secret
from minikube_py.types.pod import Container, Pod

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


class Images:
    """The node's images, as far as pods need them."""

    def __init__(self, cri: CriClient, clock: Clock) -> None:
        self._cri, self._clock = cri, clock
        self._backoff = BackoffTable()
        self._failures: dict[str, str] = {}
        self._pulls: dict[tuple[str, str], asyncio.Task[str]] = {}

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
        if policy == "Never" and image is None:
            message = f'Container image "{container.image}" is not present with pull policy of Never'
            say("Warning", "ErrImageNeverPull", message)
            raise ImageError("ErrImageNeverPull", message)
        if image is not None and policy != "Always":
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
            reference = await self._pull(name, credentials(secrets, name))
        except errors.CriError as error:
            say("Warning", "Failed", f'Failed to pull image "{container.image}": {error}')
            say("Warning", "Failed", "Error: ErrImagePull")
            now = self._clock.time()
            self._backoff.next(key, now, now)
            self._failures[key] = f"ErrImagePull: {error}"
            raise ImageError("ErrImagePull", str(error), 0.1) from error
        self._failures.pop(key, None)
        image = await self._present(reference) or await self._present(name)
        took = duration_ms(self._clock.monotonic() - started)
        size = image.size if image is not None else 0
        message = f'Successfully pulled image "{container.image}" in {took} ({took} including waiting). Image size: {size} bytes.'
        say("Normal", "Pulled", message)
        return (image.id if image is not None else reference), _user(image)

    async def close(self) -> None:
        """Give pulls up."""
        for task in tuple(self._pulls.values()):
            await cancel(task)

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

    async def _pull(self, name: str, auths: Sequence[v1.AuthConfig | None]) -> str:
        last: errors.CriError | None = None
        for auth in auths or (None,):
            key = (name, auth.SerializeToString().hex() if auth is not None else "")
            task = self._pulls.get(key)
            if task is None:
                task = self._pulls[key] = asyncio.create_task(self._cri.pull_image(name, auth), name=f"pull {name}")
                task.add_done_callback(partial(self._pulled, key))
            try:
                return await asyncio.shield(task)
            except errors.CriError as error:
                last = error
        assert last is not None
        raise last

    def _pulled(self, key: tuple[str, str], task: asyncio.Task[str]) -> None:
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


def credentials(secrets: Iterable[Secret], image: str) -> list[v1.AuthConfig | None]:
    """What the pull secrets have for the image's registry, the most specific first."""
    host = registry(image)
    found: list[tuple[int, v1.AuthConfig | None]] = []
    for secret in secrets:
        for key, value in _auths(secret).items():
            server = key.removeprefix("https://").removeprefix("http://").removesuffix("/v1/").removesuffix("/v2/").rstrip("/")
            if server in ("index.docker.io", "registry-1.docker.io"):
                server = "docker.io"
            full = image if "." in image.partition("/")[0] or ":" in image.partition("/")[0] else f"docker.io/{image}"
            if server == host or full.startswith(server + "/"):
                found.append((len(server), _auth_config(value)))
    return [auth for _, auth in sorted(found, key=lambda entry: -entry[0])]


def registry(image: str) -> str:
    """The registry's host of an image name."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


def _auths(secret: Secret) -> dict[str, dict[str, str]]:
    for name, wrapped in ((".dockerconfigjson", True), (".dockercfg", False)):
        if name in secret.data:
            try:
                content = orjson.loads(base64.b64decode(secret.data[name]))
            except ValueError:
                return {}
            auths = content.get("auths", {}) if wrapped else content
            return {k: v for k, v in auths.items() if isinstance(v, dict)} if isinstance(auths, dict) else {}
    return {}


def _auth_config(value: dict[str, str]) -> v1.AuthConfig:
    username, password = value.get("username", ""), value.get("password", "")
    if not username and value.get("auth"):
        username, _, password = base64.b64decode(value["auth"]).decode("utf-8", "replace").partition(":")
    return v1.AuthConfig(username=username, password=password, identity_token=value.get("identitytoken", ""))


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
