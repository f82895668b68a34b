"""Reads image archives: OCI layouts and what `docker save` writes, plain or gzipped, into one plan of blobs and names.

Blobs stay in the file: a plan says where each lies, so that an archive of any size passes through in pieces. An archive is untrusted
input: whatever does not fit together raises ArchiveInvalid, and no name in it is ever used as a path on this machine.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from minikube_py.cri.archive import MEDIA_INDEX, MEDIA_LAYER, MEDIA_MANIFEST
from minikube_py.cri.errors import ArchiveInvalid
from minikube_py.cri.references import normalize

_INDEXES: Final = (MEDIA_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS: Final = (MEDIA_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
_DOCUMENT_LIMIT: Final = 8 * 1024 * 1024  # bytes of an index, manifest or configuration
_CHUNK: Final = 1024 * 1024
_BAD: Final = (tarfile.TarError, gzip.BadGzipFile, EOFError, KeyError, ValueError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Descriptor:
    """What points to a blob."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True)
class Blob:
    """A blob of the archive and the blobs that it refers to and that are in the archive too."""

    descriptor: Descriptor
    children: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What an archive holds: blobs in an order in which children come first, and the names of its images."""

    blobs: tuple[Blob, ...]
    images: Mapping[str, Descriptor]


class ArchiveReader:
    """An open archive. Blocking: run it in a thread. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made: dict[str, bytes] = {}  # documents that are not in the file: manifests of docker archives
        self._places: dict[str, str] = {}  # digest -> member
        self._blobs: dict[str, Blob] = {}
        self._images: dict[str, Descriptor] = {}

    def __enter__(self) -> ArchiveReader:
        with ExitStack() as opening:
            try:
                self._tar = opening.enter_context(tarfile.open(self._path, "r:*"))
                files = (member for member in self._tar if member.isreg() or member.islnk() or member.issym())
                self._members = {member.name.removeprefix("./"): member for member in files}
            except _BAD as error:
                raise ArchiveInvalid(f"{self._path} is not an image archive: {error}") from error
            opening.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._tar.close()

    def plan(self) -> Plan:
        """Read the documents. Raises ArchiveInvalid."""
        try:
            if "index.json" in self._members:
                for entry in json.loads(self._read("index.json"))["manifests"]:
                    self._oci_image(entry)
            elif "manifest.json" in self._members:
                for entry in json.loads(self._read("manifest.json")):
                    self._docker_image(entry)
            else:
                raise ArchiveInvalid(f"{self._path} has neither index.json nor manifest.json: it is not an image archive")
        except _BAD as error:
            raise ArchiveInvalid(f"{self._path} is a damaged image archive: {type(error).__name__}: {error}") from error
        return Plan(tuple(self._blobs.values()), dict(self._images))

    def chunks(self, digest: str) -> Iterator[bytes]:
        """A blob's content, in pieces of at most 1 MiB."""
        if digest in self._made:
            yield self._made[digest]
            return
        try:
            with self._open(self._places[digest]) as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except _BAD as error:
            raise ArchiveInvalid(f"{self._path} is a damaged image archive: {error}") from error

    # OCI layouts.

    def _oci_image(self, entry: Mapping[str, Any]) -> None:
        annotations = entry.get("annotations") or {}
        descriptor = Descriptor(entry["mediaType"], entry["digest"], int(entry["size"]))
        if self._walk(descriptor) is None:
            raise ArchiveInvalid(f"{self._path} names {descriptor.digest}, which is not in it")
        name = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name", "")
        if name:
            self._images[normalize(name)] = descriptor

    def _walk(self, descriptor: Descriptor, depth: int = 0) -> str | None:
        """Put a blob and what it refers to on the plan; its digest, or None when the archive does not have it (another platform's)."""
        if descriptor.digest in self._blobs:
            return descriptor.digest
        member = "blobs/" + descriptor.digest.replace(":", "/", 1)
        if depth > 4 or member not in self._members:
            return None
        self._places[descriptor.digest] = member
        references: list[Mapping[str, Any]] = []
        if descriptor.media_type in _INDEXES:
            references = json.loads(self._read(member))["manifests"]
        elif descriptor.media_type in _MANIFESTS:
            document = json.loads(self._read(member))
            references = [document["config"], *document["layers"]]
        found = [self._walk(Descriptor(item["mediaType"], item["digest"], int(item["size"])), depth + 1) for item in references]
        if descriptor.media_type in _MANIFESTS and None in found:
            raise ArchiveInvalid(f"{self._path} lacks a part of {descriptor.digest}")
        self._blobs[descriptor.digest] = Blob(descriptor, tuple(digest for digest in found if digest))
        return descriptor.digest

    # What docker save wrote before it wrote OCI layouts.

    def _docker_image(self, entry: Mapping[str, Any]) -> None:
        config = self._docker_blob(entry["Config"], "application/vnd.docker.container.image.v1+json")
        layers = [self._docker_blob(name, "") for name in entry["Layers"]]
        document = {
            "schemaVersion": 2,
            "mediaType": _MANIFESTS[1],
            "config": _json_descriptor(config),
            "layers": [_json_descriptor(layer) for layer in layers],
        }
        data = json.dumps(document, separators=(",", ":")).encode()
        manifest = Descriptor(_MANIFESTS[1], "sha256:" + hashlib.sha256(data).hexdigest(), len(data))
        self._made[manifest.digest] = data
        self._blobs[manifest.digest] = Blob(manifest, (config.digest, *(layer.digest for layer in layers)))
        for name in entry.get("RepoTags") or ():
            self._images[normalize(name)] = manifest

    def _docker_blob(self, member: str, media_type: str) -> Descriptor:
        digest, size, start = hashlib.sha256(), 0, b""
        with self._open(member) as file:
            while chunk := file.read(_CHUNK):
                start = start or chunk[:2]
                digest.update(chunk)
                size += len(chunk)
        if not media_type:
            media_type = MEDIA_LAYER + ("+gzip" if start == b"\x1f\x8b" else "")
        descriptor = Descriptor(media_type, "sha256:" + digest.hexdigest(), size)
        self._places[descriptor.digest] = member
        self._blobs.setdefault(descriptor.digest, Blob(descriptor))
        return descriptor

    # The file.

    def _read(self, member: str) -> bytes:
        with self._open(member) as file:
            data = file.read(_DOCUMENT_LIMIT + 1)
        if len(data) > _DOCUMENT_LIMIT:
            raise ArchiveInvalid(f"{member} in {self._path} is too large for a document")
        return data

    def _open(self, member: str) -> IO[bytes]:
        file = self._tar.extractfile(self._members[member])  # follows links inside the archive only
        if file is None:
            raise ArchiveInvalid(f"{member} in {self._path} is not a file")
        return file


def _json_descriptor(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}
