"""Importing archives into a real containerd."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from minikube_py.cri import errors
from minikube_py.cri.archive import ImageConfig, Layer, image_archive
from minikube_py.cri.client import CriClient
from minikube_py.cri.images import import_archive
from tests.support.images import busybox_archive
from tests.support.nodes import RuntimeNode
from tests.support.sandboxes import container_config, run_container, sandbox_config
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]


def ctr(node: RuntimeNode, *arguments: str) -> str:
    whole = ["ctr", "--address", str(node.socket), "--namespace", "k8s.io", *arguments]
    return subprocess.run(whole, check=True, capture_output=True, text=True, timeout=30).stdout


async def test_an_import_survives_garbage_collection_and_runs(client: CriClient, node: RuntimeNode, tmp_path: Path) -> None:
    layer = Layer()
    layer.file("greeting", b"hello from a layer\n")
    data = image_archive("greeting:1", layer.finish(), ImageConfig(cmd=("/greeting",)))
    (tmp_path / "greeting.tar").write_bytes(data)
    assert await import_archive(client, tmp_path / "greeting.tar") == ("docker.io/library/greeting:1",)
    image = await client.image_status("greeting:1")
    assert image is not None
    assert image.size > 0
    assert "import" not in ctr(node, "leases", "list"), "the lease must be given up"
    before = ctr(node, "content", "list", "-q").split()
    await import_archive(client, tmp_path / "greeting.tar")
    ctr(node, "images", "tag", "docker.io/library/greeting:1", "docker.io/library/other:1")
    ctr(node, "images", "remove", "--sync", "docker.io/library/other:1")  # waits for a garbage collection
    assert ctr(node, "content", "list", "-q").split() == before


async def test_importing_again_changes_nothing_and_a_new_content_moves_the_name(client: CriClient, tmp_path: Path) -> None:
    ids: list[str] = []

    async def moved() -> bool:
        image = await client.image_status("moving:1")
        return image is not None and image.id != ids[0]

    for text in (b"one", b"one", b"two"):
        layer = Layer()
        layer.file("text", text)
        (tmp_path / "moving.tar").write_bytes(image_archive("moving:1", layer.finish(), ImageConfig()))
        await import_archive(client, tmp_path / "moving.tar")
        if text == b"two":
            await until(moved)  # the runtime learns of the move by an event
        image = await client.image_status("moving:1")
        assert image is not None
        ids.append(image.id)
    assert ids[0] == ids[1] != ids[2]


async def test_many_imports_at_once(client: CriClient, node: RuntimeNode, tmp_path: Path) -> None:
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{number}.tar")
        paths[-1].write_bytes(busybox_archive())
    await asyncio.gather(*(import_archive(client, path) for path in paths))
    sandbox_id, _ = await run_container(client, sandbox_config("many", node.cgroup), container_config("main"))
    await client.remove_pod_sandbox(sandbox_id)


async def test_a_damaged_blob_is_refused_by_its_digest(client: CriClient, tmp_path: Path) -> None:
    layer = Layer()
    layer.file("text", b"0123456789")
    data = image_archive("damaged:1", layer.finish(), ImageConfig())
    (tmp_path / "damaged.tar").write_bytes(data.replace(b"0123456789", b"9876543210"))
    with pytest.raises(errors.CriError, match="digest"):
        await import_archive(client, tmp_path / "damaged.tar")
    assert await client.image_status("damaged:1") is None


async def test_what_is_no_archive_is_refused(client: CriClient, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(errors.ArchiveInvalid):
        await import_archive(client, tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        await import_archive(client, tmp_path / "absent")
