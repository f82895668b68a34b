"""Imports image archives into containerd without a registry, and makes sure that the sandbox's image is there.

CRI has no call for it, so this speaks containerd's native services: a lease keeps the garbage collector away, blobs go into the content
store with labels that tie them together, then the image gets its name. CRI sees the new image through containerd's events and unpacks it
when the first container needs it. Importing what is there already changes nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask

from minikube_py.cri import errors, pause
from minikube_py.cri.archivereader import ArchiveReader, Blob, Descriptor
from minikube_py.cri.channel import answer, translate
from minikube_py.cri.client import CriClient
from minikube_py.cri.events import NAMESPACE
from minikube_py.cri.native import (
    content_pb2,
    content_pb2_grpc,
    images_pb2,
    images_pb2_grpc,
    leases_pb2,
    leases_pb2_grpc,
    types_pb2,
)

_TIMEOUT: Final = 60.0
_MANAGED: Final = {"io.cri-containerd.image": "managed"}
# Keeps an image from the kubelet's garbage collection (containerd 1.7 and later tell it so).
PINNED: Final = {"io.cri-containerd.pinned": "pinned"}


async def pinned_images(client: CriClient) -> set[str]:
    """The names of the images that are never to be removed. CRI does not tell before containerd 1.7."""
    stub = images_pb2_grpc.ImagesStub(client.channel)
    request = images_pb2.ListImagesRequest(filters=['labels."io.cri-containerd.pinned"==pinned'])
    listed = await answer(stub.List(request, metadata=(("containerd-namespace", NAMESPACE),), timeout=_TIMEOUT))
    return {image.name for image in listed.images}


async def ensure_pause(client: CriClient) -> str:
    """Import the sandbox's image unless it is there; its name."""
    if await client.image_status(pause.IMAGE) is None:
        await import_archive(client, pause.ARCHIVE, labels=PINNED)
    return pause.IMAGE


async def import_archive(client: CriClient, path: Path, labels: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Import every image of an OCI or docker archive; their full names. Raises ArchiveInvalid, FileNotFoundError or another CriError."""
    reader = await asyncio.to_thread(ArchiveReader(path).__enter__)
    try:
        plan = await asyncio.to_thread(reader.plan)
        importer = _Importer(client.channel)
        await importer.begin()
        try:
            for blob in plan.blobs:
                await importer.write(blob, reader)
            for name, target in plan.images.items():
                await importer.name(name, target, {**_MANAGED, **(labels or {})})
        finally:
            await importer.end()
        for name in plan.images:
            await _until_seen(client, name)
    finally:
        await asyncio.to_thread(reader.__exit__, None, None, None)
    return tuple(plan.images)


async def _until_seen(client: CriClient, name: str) -> None:
    """CRI learns of an image by an event: wait for it, so that a pod may follow at once."""
    delay = 0.005
    while await client.image_status(name) is None:
        if delay > 2:
            raise errors.RuntimeFailed(f"the container runtime does not see image {name} after its import")
        await asyncio.sleep(delay)
        delay *= 1.5


class _Importer:
    """One import under one lease."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._leases = leases_pb2_grpc.LeasesStub(channel)
        self._content = content_pb2_grpc.ContentStub(channel)
        self._images = images_pb2_grpc.ImagesStub(channel)
        self._lease = f"minikube-py-import-{uuid.uuid4().hex}"
        self._metadata: tuple[tuple[str, str], ...] = (("containerd-namespace", NAMESPACE),)

    async def begin(self) -> None:
        """Take the lease. It expires by itself, should this process die on the way."""
        expiry = datetime.now(UTC) + timedelta(hours=1)
        request = leases_pb2.CreateRequest(id=self._lease, labels={"containerd.io/gc.expire": expiry.isoformat()})
        await answer(self._leases.Create(request, metadata=self._metadata, timeout=_TIMEOUT))
        self._metadata += (("containerd-lease", self._lease),)

    async def end(self) -> None:
        """Give the lease up: what has a name by now stays."""
        await answer(self._leases.Delete(leases_pb2.DeleteRequest(id=self._lease), metadata=self._metadata[:1], timeout=_TIMEOUT))

    async def write(self, blob: Blob, reader: ArchiveReader) -> None:
        """Put one blob into the content store; one that is there gets the labels that it lacks."""
        labels = {f"containerd.io/gc.ref.content.{number}": digest for number, digest in enumerate(blob.children)}
        if await self._has(blob.descriptor.digest):
            await self._label(blob.descriptor.digest, labels)
            return
        try:
            async for _ in self._content.Write(self._pieces(blob, reader, labels), metadata=self._metadata):
                pass
        except grpc.aio.AioRpcError as error:
            if not await self._has(blob.descriptor.digest):  # else somebody else wrote it meanwhile
                raise translate(error) from error
            await self._label(blob.descriptor.digest, labels)

    async def _has(self, digest: str) -> bool:
        try:
            await answer(self._content.Info(content_pb2.InfoRequest(digest=digest), metadata=self._metadata, timeout=_TIMEOUT))
        except errors.NotFound:
            return False
        return True

    async def _pieces(self, blob: Blob, reader: ArchiveReader, labels: Mapping[str, str]) -> AsyncIterator[content_pb2.WriteContentRequest]:
        descriptor, offset = blob.descriptor, 0
        request = partial(
            content_pb2.WriteContentRequest, ref=f"{self._lease}-{descriptor.digest}", total=descriptor.size, expected=descriptor.digest
        )
        chunks = reader.chunks(descriptor.digest)
        while chunk := await asyncio.to_thread(next, chunks, b""):
            yield request(action=content_pb2.WRITE, offset=offset, data=chunk)
            offset += len(chunk)
        yield request(action=content_pb2.COMMIT, offset=offset, labels=labels)

    async def _label(self, digest: str, labels: Mapping[str, str]) -> None:
        if not labels:
            return
        info = content_pb2.Info(digest=digest, labels=labels)
        request = content_pb2.UpdateRequest(info=info, update_mask=FieldMask(paths=[f"labels.{key}" for key in labels]))
        await answer(self._content.Update(request, metadata=self._metadata, timeout=_TIMEOUT))

    async def name(self, name: str, target: Descriptor, labels: Mapping[str, str]) -> None:
        """Give an image its name, or point the name to the new content."""
        descriptor = types_pb2.Descriptor(media_type=target.media_type, digest=target.digest, size=target.size)
        image = images_pb2.Image(name=name, labels=labels, target=descriptor)
        try:
            await answer(self._images.Create(images_pb2.CreateImageRequest(image=image), metadata=self._metadata, timeout=_TIMEOUT))
        except errors.AlreadyExists:
            request = images_pb2.UpdateImageRequest(image=image, update_mask=FieldMask(paths=["target", "labels"]))
            await answer(self._images.Update(request, metadata=self._metadata, timeout=_TIMEOUT))
