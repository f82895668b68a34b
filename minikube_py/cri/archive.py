"""Makes image archives (an OCI layout in a tar file) out of files: the sandbox's image, and images for clusters without a registry.

Standard library only, since the build step uses it too. The same input gives the same bytes: owners are root, times are zero, names are
sorted as they were added.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

# Go's names of the machines that Python names otherwise.
_ARCHITECTURES: Final = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}

MEDIA_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
MEDIA_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
MEDIA_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
MEDIA_INDEX: Final = "application/vnd.oci.image.index.v1+json"


def architecture() -> str:
    """This machine's architecture, as images name it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


@dataclass(frozen=True)
class ImageConfig:
    """How a container of the image runs, where the pod does not say otherwise."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""


class Layer:
    """A file system layer in the making. Paths are relative to the root; parent directories are made as needed."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by finish
        self._names: set[str] = set()

    def directory(self, name: str, mode: int = 0o755) -> None:
        """Add a directory."""
        if name.strip("/") not in self._names:
            self._add(name, tarfile.DIRTYPE, mode)

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self._add(name, tarfile.REGTYPE, mode, data)

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(name, tarfile.SYMTYPE, 0o777, target=target)

    def has(self, name: str) -> bool:
        """Whether there is something under this name."""
        return name.strip("/") in self._names

    def tree(self, root: Path) -> None:
        """Add everything below a directory of this machine; owners become root, times zero. Sockets and devices are left out."""
        for path in sorted(root.rglob("*")):
            name, mode = path.relative_to(root).as_posix(), path.lstat().st_mode & 0o7777
            if path.is_symlink():
                self.symlink(name, str(path.readlink()))
            elif path.is_dir():
                self.directory(name, mode)
            elif path.is_file():
                self.file(name, path.read_bytes(), mode)

    def finish(self) -> bytes:
        """The layer as an uncompressed tar."""
        self._tar.close()
        return self._buffer.getvalue()

    def _add(self, name: str, kind: bytes, mode: int, data: bytes = b"", target: str = "") -> None:
        name = name.strip("/")
        parent = name.rpartition("/")[0]
        if parent and parent not in self._names:
            self.directory(parent)
        self._names.add(name)
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), target
        self._tar.addfile(entry, io.BytesIO(data))


def image_archive(name: str, layer: bytes, config: ImageConfig) -> bytes:
    """An archive of one image with one layer, for this machine's architecture. `name` is a full reference, registry and tag included."""
    document = {
        "architecture": architecture(),
        "os": "linux",
        "config": _run_config(config),
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    config_blob = _json(document)
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MEDIA_MANIFEST,
            "config": _descriptor(MEDIA_CONFIG, config_blob),
            "layers": [_descriptor(MEDIA_LAYER, layer)],
        }
    )
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    index = {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": [{**_descriptor(MEDIA_MANIFEST, manifest), "annotations": names}]}
    outer = Layer()
    outer.file("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    outer.file("index.json", _json(index))
    for blob in (config_blob, layer, manifest):
        outer.file("blobs/sha256/" + _digest(blob).partition(":")[2], blob)
    return outer.finish()


def _run_config(config: ImageConfig) -> dict[str, Any]:
    values: dict[str, Any] = {
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.cmd),
        "Env": [f"{key}={value}" for key, value in config.env.items()],
        "User": config.user,
        "WorkingDir": config.working_dir,
    }
    return {key: value for key, value in values.items() if value}


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
