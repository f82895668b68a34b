"""The directories of this node that are persistent volumes of the built-in storage class: made and removed when the provisioner asks.

What always holds: only directories right below the storage directory are touched, each of them named for its volume; what goes is first
renamed, so that a removal that was cut short is finished by the next one and never seen half done. Blocking: called in a thread.
"""

from __future__ import annotations

import re
from pathlib import Path

from minikube_py.kubelet.volumes.removal import remove_tree

_NAME = re.compile(r"pvc-[a-z0-9][a-z0-9.-]*")
_LABEL = re.compile(r"[a-z0-9][a-z0-9.-]*")
_GOING = ".removed-"
MODE = 0o777


class InvalidName(ValueError):
    """No volume is called so."""


def ensure(storage: Path, name: str, namespace: str, claim: str) -> Path:
    """The directory of a volume, which anyone may write to, as in an emptyDir; its name tells people whose it is.

    Raises InvalidName, OSError."""
    if not all(_LABEL.fullmatch(part) for part in (namespace, claim)):
        raise InvalidName(f"{namespace}/{claim} is no claim")
    found = _find(storage, name)
    if found is None:
        storage.mkdir(parents=True, exist_ok=True, mode=0o711)
        found = storage / f"{name}_{namespace}_{claim}"
        found.mkdir()
        found.chmod(MODE)
    return found


def remove(storage: Path, name: str) -> None:
    """Remove the directory of a volume and all that is in it. Idempotent. Raises InvalidName, StillMounted, OSError."""
    going = storage / f"{_GOING}{_checked(name)}"
    if going.is_dir():
        remove_tree(going)
    if (found := _find(storage, name)) is not None:
        found.rename(going)
        remove_tree(going)


def _find(storage: Path, name: str) -> Path | None:
    prefix = _checked(name) + "_"
    try:
        return next((entry for entry in storage.iterdir() if entry.name.startswith(prefix) and not entry.is_symlink()), None)
    except FileNotFoundError:
        return None


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidName(f"{name} is no volume of this storage")
    return name
