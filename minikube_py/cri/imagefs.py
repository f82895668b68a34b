"""The files of an image, for a directory of the host: what an image volume shows.

CRI mounts images into containers only from containerd 2.1 on, so this asks containerd's native services for a view of the image's unpacked
layers, under a key of the caller's, in every version alike. An image that was imported rather than pulled is unpacked first, as CRI itself
does before its first container. A view keeps its layers from containerd's garbage collection until it is released, also when this process
ends meanwhile: whoever asked for it under a key can release it by that key.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from google.protobuf.field_mask_pb2 import FieldMask

from minikube_py.cri import errors
from minikube_py.cri.channel import answer
from minikube_py.cri.client import CriClient
from minikube_py.cri.events import NAMESPACE
from minikube_py.cri.native import (
    content_pb2,
    content_pb2_grpc,
    diff_pb2,
    diff_pb2_grpc,
    images_pb2,
    images_pb2_grpc,
    leases_pb2,
    leases_pb2_grpc,
    snapshots_pb2,
    snapshots_pb2_grpc,
    types_pb2,
)

_TIMEOUT: Final = 60.0
_UNPACK_TIMEOUT: Final = 600.0
_DOCUMENT_LIMIT: Final = 8 * 1024 * 1024
_SNAPSHOTTER: Final = "io.containerd.snapshotter.v1."

Metadata = tuple[tuple[str, str], ...]


class Mount(NamedTuple):
    """One mount that makes a view visible, as mount(8) would be told it."""

    type: str
    source: str
    options: tuple[str, ...]


class _Image(NamedTuple):
    config: str
    layers: tuple[types_pb2.Descriptor, ...]
    diff_ids: tuple[str, ...]


class ImageFilesystems:
    """Views of images. Raises CriError."""

    def __init__(self, client: CriClient) -> None:
        self._client = client
        self._snapshots = snapshots_pb2_grpc.SnapshotsStub(client.channel)
        self._diff = diff_pb2_grpc.DiffStub(client.channel)
        self._content = content_pb2_grpc.ContentStub(client.channel)
        self._images = images_pb2_grpc.ImagesStub(client.channel)
        self._leases = leases_pb2_grpc.LeasesStub(client.channel)
        self._metadata: Metadata = (("containerd-namespace", NAMESPACE),)
        self._name = ""

    async def view(self, image_id: str, key: str) -> Sequence[Mount]:
        """How to mount, read-only, what is in an image that is present. The same key gives the same view again until it is released."""
        snapshotter = await self._snapshotter()
        with contextlib.suppress(errors.NotFound):
            return await self._mounts(snapshotter, key)
        async with self._lease() as metadata:
            image = await self._find(image_id)
            parent = await self._unpacked(snapshotter, image, metadata)
            request = snapshots_pb2.ViewSnapshotRequest(
                snapshotter=snapshotter, key=key, parent=parent, labels={"containerd.io/gc.root": datetime.now(UTC).isoformat()}
            )
            try:
                made = await answer(self._snapshots.View(request, metadata=self._metadata, timeout=_TIMEOUT))
            except errors.AlreadyExists:
                return await self._mounts(snapshotter, key)
            return _mounts_of(made.mounts)

    async def release(self, key: str) -> None:
        """Give a view up, unmounted before. Idempotent."""
        request = snapshots_pb2.RemoveSnapshotRequest(snapshotter=await self._snapshotter(), key=key)
        with contextlib.suppress(errors.NotFound):
            await answer(self._snapshots.Remove(request, metadata=self._metadata, timeout=_TIMEOUT))

    async def _snapshotter(self) -> str:
        """The snapshotter of the runtime's images, which CRI names by the directory that it keeps them in."""
        if not self._name:
            systems = (await self._client.image_fs_info()).image_filesystems
            self._name = next((s.fs_id.mountpoint.rpartition(_SNAPSHOTTER)[2] for s in systems if _SNAPSHOTTER in s.fs_id.mountpoint), "")
            self._name = self._name or "overlayfs"
        return self._name

    async def _mounts(self, snapshotter: str, key: str) -> Sequence[Mount]:
        request = snapshots_pb2.MountsRequest(snapshotter=snapshotter, key=key)
        return _mounts_of((await answer(self._snapshots.Mounts(request, metadata=self._metadata, timeout=_TIMEOUT))).mounts)

    @contextlib.asynccontextmanager
    async def _lease(self) -> AsyncIterator[Metadata]:
        """Keeps the garbage collector away from what is half made. It expires by itself, should this process die on the way."""
        name = f"minikube-py-view-{uuid.uuid4().hex}"
        labels = {"containerd.io/gc.expire": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
        request = leases_pb2.CreateRequest(id=name, labels=labels)
        await answer(self._leases.Create(request, metadata=self._metadata, timeout=_TIMEOUT))
        try:
            yield (*self._metadata, ("containerd-lease", name))
        finally:
            await answer(self._leases.Delete(leases_pb2.DeleteRequest(id=name), metadata=self._metadata, timeout=_TIMEOUT))

    # What is in an image.

    async def _find(self, image_id: str) -> _Image:
        """An image by its id, the digest of its configuration."""
        known = await self._client.image_status(image_id)
        manifest = None
        for name in (*known.repo_tags, *known.repo_digests, image_id) if known is not None else ():
            with contextlib.suppress(errors.NotFound):  # containerd knows it by some of these
                request = images_pb2.GetImageRequest(name=name)
                target = (await answer(self._images.Get(request, metadata=self._metadata, timeout=_TIMEOUT))).image.target
                manifest = await self._manifest(target.digest, image_id)
            if manifest is not None:
                break
        if manifest is None:
            raise errors.NotFound(f"image {image_id}: no manifest for this machine is present")
        config = await self._document(manifest["config"]["digest"])
        layers = tuple(
            types_pb2.Descriptor(media_type=layer["mediaType"], digest=layer["digest"], size=layer["size"]) for layer in manifest["layers"]
        )
        diff_ids = tuple((config.get("rootfs") or {}).get("diff_ids") or ())
        if len(diff_ids) != len(layers):
            raise errors.InvalidArgument(f"image {image_id}: its configuration names {len(diff_ids)} layers, its manifest {len(layers)}")
        return _Image(manifest["config"]["digest"], layers, diff_ids)

    async def _manifest(self, digest: str, image_id: str) -> dict[str, Any] | None:
        """The manifest with that configuration, which an index may stand before; only this machine's part of an index is present."""
        try:
            document = await self._document(digest)
        except errors.NotFound:
            return None
        if "config" in document:
            return document if document["config"]["digest"] == image_id else None
        for entry in document.get("manifests") or ():
            if (found := await self._manifest(entry["digest"], image_id)) is not None:
                return found
        return None

    async def _document(self, digest: str) -> dict[str, Any]:
        info = (await answer(self._content.Info(content_pb2.InfoRequest(digest=digest), metadata=self._metadata, timeout=_TIMEOUT))).info
        if info.size > _DOCUMENT_LIMIT:
            raise errors.InvalidArgument(f"{digest} is too large for a manifest")
        request = content_pb2.ReadContentRequest(digest=digest, size=info.size)
        data = b"".join([part.data async for part in self._content.Read(request, metadata=self._metadata, timeout=_TIMEOUT)])
        document = json.loads(data)
        if not isinstance(document, dict):
            raise errors.InvalidArgument(f"{digest} is no manifest")
        return document

    # Unpacking.

    async def _unpacked(self, snapshotter: str, image: _Image, metadata: Metadata) -> str:
        """The snapshot with all of the image's layers, made where it is missing; its name."""
        chain = chain_ids(image.diff_ids)
        if not chain:
            return ""
        if not await self._exists(snapshotter, chain[-1]):
            parent = ""
            for layer, diff_id, name in zip(image.layers, image.diff_ids, chain, strict=True):
                if not await self._exists(snapshotter, name):
                    await self._unpack(snapshotter, layer, diff_id, name, parent, metadata)
                parent = name
        label = f"containerd.io/gc.ref.snapshot.{snapshotter}"
        info = content_pb2.Info(digest=image.config, labels={label: chain[-1]})
        request = content_pb2.UpdateRequest(info=info, update_mask=FieldMask(paths=[f"labels.{label}"]))
        await answer(self._content.Update(request, metadata=metadata, timeout=_TIMEOUT))
        return chain[-1]

    async def _exists(self, snapshotter: str, name: str) -> bool:
        try:
            await answer(
                self._snapshots.Stat(
                    snapshots_pb2.StatSnapshotRequest(snapshotter=snapshotter, key=name), metadata=self._metadata, timeout=_TIMEOUT
                )
            )
        except errors.NotFound:
            return False
        return True

    async def _unpack(
        self, snapshotter: str, layer: types_pb2.Descriptor, diff_id: str, name: str, parent: str, metadata: Metadata
    ) -> None:
        key = f"minikube-py-unpack-{uuid.uuid4().hex}"
        prepare = snapshots_pb2.PrepareSnapshotRequest(snapshotter=snapshotter, key=key, parent=parent)
        prepared = await answer(self._snapshots.Prepare(prepare, metadata=metadata, timeout=_TIMEOUT))
        try:
            apply = diff_pb2.ApplyRequest(diff=layer, mounts=prepared.mounts)
            applied = (await answer(self._diff.Apply(apply, metadata=metadata, timeout=_UNPACK_TIMEOUT))).applied
            if applied.digest != diff_id:
                raise errors.InvalidArgument(f"layer {layer.digest} unpacks to {applied.digest}, not to {diff_id}")
            commit = snapshots_pb2.CommitSnapshotRequest(snapshotter=snapshotter, name=name, key=key)
            await answer(self._snapshots.Commit(commit, metadata=metadata, timeout=_TIMEOUT))
        except errors.CriError as error:
            with contextlib.suppress(errors.CriError):
                remove = snapshots_pb2.RemoveSnapshotRequest(snapshotter=snapshotter, key=key)
                await answer(self._snapshots.Remove(remove, metadata=metadata, timeout=_TIMEOUT))
            if not isinstance(error, errors.AlreadyExists):  # else somebody else unpacked it meanwhile
                raise


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """The names of the snapshots that hold the first layer, the first two, and so on: the image specification's chain ids."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append("sha256:" + hashlib.sha256(f"{chain[-1]} {diff_id}".encode()).hexdigest() if chain else diff_id)
    return tuple(chain)


def _mounts_of(mounts: Sequence[Any]) -> tuple[Mount, ...]:
    return tuple(Mount(mount.type, mount.source, tuple(mount.options)) for mount in mounts)
