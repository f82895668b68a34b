"""A real registry on a Lan that serves image archives: Debian's docker-registry, read only, on files that were laid out for it.

The layout is the registry's own storage format: blobs by digest, and links to them by repository. A name's registry is dropped from the
path, as containerd asks a mirror: registry.k8s.io/pause:3.10 is pause:3.10 here.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.support.netns import enter
from tests.support.program import Program

PORT = 5000


@dataclass
class Registry(Program):
    """A registry on a machine of its own; its files are in `directory`."""

    namespace: str
    ip: str
    users: str = ""
    """Who may use it, as lines of an htpasswd file; anybody where that is empty."""
    role: ClassVar[str] = "registry"

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://{self.ip}:{PORT}"

    def command(self) -> list[str]:
        """Its command line."""
        return [*enter(self.namespace), "docker-registry", "serve", str(self.directory / "config.yml")]

    def serve(self, archives: Iterable[Path]) -> None:
        """Lay the images out, start, and return when it answers."""
        for archive in archives:
            _lay_out(archive, self.data / "docker" / "registry" / "v2")
        config = {
            "version": "0.1",
            "log": {"accesslog": {"disabled": True}, "level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.data)}, "maintenance": {"readonly": {"enabled": True}}},
            "http": {"addr": f"{self.ip}:{PORT}"},
        }
        if self.users:
            passwords = self.directory / "htpasswd"
            passwords.write_text(self.users)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(passwords)}}
        (self.directory / "config.yml").write_text(json.dumps(config))
        self.start()
        deadline = time.monotonic() + 10
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/v2/", timeout=2):
                    return
            except urllib.error.HTTPError as error:
                error.close()
                assert error.code == 401 and self.users, error
                return
            except (urllib.error.URLError, OSError):
                self.must_run()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.02)


def use(url: str, certs: Path) -> None:
    """Have a containerd, whose certs.d this is, ask that registry for every image."""
    (certs / "_default").mkdir(parents=True, exist_ok=True)
    (certs / "_default" / "hosts.toml").write_text(f'server = "{url}"\n[host."{url}"]\ncapabilities = ["pull", "resolve"]\n')


def _lay_out(archive: Path, storage: Path) -> None:
    """An OCI layout's images as the registry keeps them."""
    with tarfile.open(archive) as tar:
        for image in _json(tar, "index.json")["manifests"]:
            path, _, tag = image["annotations"]["io.containerd.image.name"].partition("/")[2].rpartition(":")
            repository, manifest = storage / "repositories" / path, image["digest"]
            document = _json(tar, _blob(manifest))
            layers = [document["config"]["digest"], *(layer["digest"] for layer in document["layers"])]
            for digest in (manifest, *layers):
                _copy(tar, digest, storage)
            for digest in layers:
                _link(repository / "_layers" / digest.replace(":", "/"), digest)
            for place in ("revisions", f"tags/{tag}/index"):
                _link(repository / "_manifests" / place / manifest.replace(":", "/"), manifest)
            _link(repository / "_manifests" / "tags" / tag / "current", manifest)


def _copy(tar: tarfile.TarFile, digest: str, storage: Path) -> None:
    kind, _, name = digest.partition(":")
    target = storage / "blobs" / kind / name[:2] / name / "data"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source = tar.extractfile(_blob(digest))
        assert source is not None
        with source, target.open("wb") as file:
            shutil.copyfileobj(source, file)


def _link(directory: Path, digest: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "link").write_text(digest)


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _json(tar: tarfile.TarFile, name: str) -> Any:
    file = tar.extractfile(name)
    assert file is not None
    with file:
        return json.load(file)
