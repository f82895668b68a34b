"""Image archives: what is made, what is read back, what is refused. No containerd."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from minikube_py.cri import pause
from minikube_py.cri.archive import ImageConfig, Layer, architecture, image_archive
from minikube_py.cri.archivereader import ArchiveReader, Plan
from minikube_py.cri.errors import ArchiveInvalid
from minikube_py.cri.references import normalize


def plan(path: Path) -> Plan:
    with ArchiveReader(path) as reader:
        made = reader.plan()
        for blob in made.blobs:
            data = b"".join(reader.chunks(blob.descriptor.digest))
            assert "sha256:" + hashlib.sha256(data).hexdigest() == blob.descriptor.digest
            assert len(data) == blob.descriptor.size
        return made


def write(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def simple(name: str = "example.org/app:1") -> bytes:
    layer = Layer()
    layer.file("bin/app", b"program", 0o755)
    layer.symlink("app", "bin/app")
    return image_archive(name, layer.finish(), ImageConfig(entrypoint=("/bin/app",), env={"A": "1"}, user="7"))


def test_an_archive_that_was_made_reads_back(tmp_path: Path) -> None:
    (tmp_path / "app.tar").write_bytes(simple())
    made = plan(tmp_path / "app.tar")
    assert list(made.images) == ["example.org/app:1"]
    kinds = [blob.descriptor.media_type.rsplit(".", 1)[-1] for blob in made.blobs]
    assert kinds == ["v1+json", "tar", "v1+json"], "the manifest comes after what it refers to"
    assert made.blobs[-1].children == tuple(blob.descriptor.digest for blob in made.blobs[:2])
    assert made.images["example.org/app:1"].digest == made.blobs[-1].descriptor.digest


def test_the_same_input_gives_the_same_bytes() -> None:
    assert simple() == simple()


def test_a_tree_becomes_a_layer(tmp_path: Path) -> None:
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "root" / "etc" / "motd").write_text("hi")
    (tmp_path / "root" / "etc" / "link").symlink_to("motd")
    (tmp_path / "root" / "etc" / "motd").chmod(0o600)
    layer = Layer()
    layer.tree(tmp_path / "root")
    with tarfile.open(fileobj=io.BytesIO(layer.finish())) as tar:
        members = {member.name: member for member in tar}
    assert set(members) == {"etc", "etc/motd", "etc/link"}
    assert (members["etc/motd"].mode, members["etc/motd"].uid, members["etc/motd"].mtime) == (0o600, 0, 0)
    assert members["etc/link"].linkname == "motd"


def test_gzipped_archives_are_read(tmp_path: Path) -> None:
    (tmp_path / "app.tar.gz").write_bytes(gzip.compress(simple()))
    assert list(plan(tmp_path / "app.tar.gz").images) == ["example.org/app:1"]


def test_what_docker_save_wrote_is_read(tmp_path: Path) -> None:
    config, layer = b'{"os":"linux"}', gzip.compress(b"layer")
    manifest = [{"Config": "abc.json", "RepoTags": ["app:2", "example.org/app:2"], "Layers": ["1/layer.tar", "1/layer.tar"]}]
    path = write(tmp_path / "docker.tar", {"abc.json": config, "1/layer.tar": layer, "manifest.json": json.dumps(manifest).encode()})
    made = plan(path)
    assert set(made.images) == {"docker.io/library/app:2", "example.org/app:2"}
    with ArchiveReader(path) as reader:
        target = reader.plan().images["example.org/app:2"]
        document = json.loads(b"".join(reader.chunks(target.digest)))
    assert [item["mediaType"].endswith("gzip") for item in document["layers"]] == [True, True]


def test_an_index_of_platforms_is_taken_with_what_is_there(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(simple())) as tar:
        files = {member.name: file.read() for member in tar if (file := tar.extractfile(member)) is not None}
    inner = json.loads(files["index.json"])
    absent = {"mediaType": inner["manifests"][0]["mediaType"], "digest": "sha256:" + "0" * 64, "size": 5}
    platforms = json.dumps({"schemaVersion": 2, "manifests": [inner["manifests"][0], absent]}).encode()
    digest = hashlib.sha256(platforms).hexdigest()
    files[f"blobs/sha256/{digest}"] = platforms
    outer = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": f"sha256:{digest}",
        "size": len(platforms),
        "annotations": {"io.containerd.image.name": "many:1"},
    }
    files["index.json"] = json.dumps({"manifests": [outer]}).encode()
    made = plan(write(tmp_path / "many.tar", files))
    assert made.images["docker.io/library/many:1"].digest == f"sha256:{digest}"
    assert made.blobs[-1].children == (inner["manifests"][0]["digest"],)


def _without_layer() -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(simple())) as tar:
        files = {member.name: file.read() for member in tar if (file := tar.extractfile(member)) is not None}
    largest = max((name for name in files if name.startswith("blobs/")), key=lambda name: len(files[name]))
    del files[largest]
    return files


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"readme": b"hello"}, "neither index.json nor manifest.json"),
        ({"index.json": b"{"}, "damaged"),
        ({"index.json": b"[]"}, "damaged"),
        ({"index.json": b"{}"}, "damaged"),
        ({"index.json": b'{"manifests":[{"mediaType":"x","digest":"sha256:00","size":1}]}'}, "not in it"),
        ({"index.json": b'{"manifests":[{"mediaType":"x","digest":"sha256:../../etc/passwd","size":1}]}'}, "not in it"),
        ({"index.json": b"[" * 100_000}, "damaged"),
        ({"index.json": b" " * (9 << 20)}, "too large"),
        ({"manifest.json": b'[{"Config":"absent","Layers":[]}]'}, "damaged"),
        (_without_layer(), "lacks a part"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(ArchiveInvalid, match=message):
        plan(write(tmp_path / "bad.tar", files))


@pytest.mark.parametrize("data", [b"", b"no tar at all", simple()[:700], gzip.compress(simple())[:200]])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.tar").write_bytes(data)
    with pytest.raises(ArchiveInvalid):
        plan(tmp_path / "bad.tar")


def test_an_absent_archive_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        plan(tmp_path / "absent.tar")


def test_the_sandboxes_image_is_made_at_build_time() -> None:
    made = plan(pause.ARCHIVE)
    assert list(made.images) == [pause.IMAGE]
    with ArchiveReader(pause.ARCHIVE) as reader:
        reader.plan()
        config = json.loads(b"".join(reader.chunks(made.blobs[0].descriptor.digest)))
    assert config["architecture"] == architecture()
    assert config["config"]["Entrypoint"] == ["/pause"]


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1", "docker.io/library/busybox:1"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/team/app:1", "docker.io/team/app:1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:2", "localhost:5000/app:2"),
        ("example.org/a/b/c", "example.org/a/b/c:latest"),
        ("example.org/app@sha256:00", "example.org/app@sha256:00"),
        ("example.org/app:1@sha256:00", "example.org/app:1@sha256:00"),
    ],
)
def test_references_are_normalized(short: str, full: str) -> None:
    assert normalize(short) == full
