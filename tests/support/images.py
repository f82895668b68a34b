"""Images for tests, made from the machine's static busybox: no registry, no internet.

`busybox` has every applet as a link, a shell, a small web root that `httpd` serves, and `udp`, which answers datagrams; it is what pods in
tests run.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from minikube_py.cri.archive import ImageConfig, Layer, image_archive

BUSYBOX = "docker.io/library/busybox:test"
WEB = "docker.io/library/web:test"


@cache
def _busybox_layer() -> bytes:
    binary = shutil.which("busybox", path="/bin:/usr/bin")
    assert binary is not None, "apt-get install busybox-static"
    layer = Layer()
    layer.directory("tmp", 0o1777)
    for name in ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "usr", "var", "www"):
        layer.directory(name)
    layer.file(
        "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\napp:x:1000:1000::/home:/bin/sh\n"
    )
    layer.file("etc/group", b"root:x:0:\nnogroup:x:65534:\napp:x:1000:\nextra:x:2000:app\n")
    layer.file("bin/busybox", Path(binary).read_bytes(), 0o755)
    for applet in subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            layer.symlink(f"bin/{applet}", "busybox")
    layer.file("www/index.html", b"hello\n")
    layer.file("bin/serve", _SERVE, 0o755)
    layer.file("bin/udp", _udp(), 0o755)
    return layer.finish()


# Serves its own name: which pod answered is what tests of Services ask.
_SERVE = b"""#!/bin/sh
mkdir -p /tmp/www
hostname > /tmp/www/index.html
exec httpd -f -p "${PORT:-8080}" -h /tmp/www
"""


def _udp() -> bytes:
    """What busybox does not have: a program that answers datagrams, and one that asks."""
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "udp"
        subprocess.run(["cc", "-static", "-Os", "-s", "-o", program, Path(__file__).with_name("udp.c")], check=True)
        return program.read_bytes()


def busybox_archive() -> bytes:
    """A shell that sleeps unless told otherwise."""
    return image_archive(BUSYBOX, _busybox_layer(), ImageConfig(cmd=("sh",), env={"PATH": "/bin"}))


def web_archive() -> bytes:
    """An HTTP server on port 8080 (or $PORT) that answers with its host name."""
    return image_archive(WEB, _busybox_layer(), ImageConfig(entrypoint=("/bin/serve",), env={"PATH": "/bin"}))


def write_archives(directory: Path) -> list[Path]:
    """Both archives as files."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, data in (("busybox.tar", busybox_archive()), ("web.tar", web_archive())):
        path = directory / name
        path.write_bytes(data)
        paths.append(path)
    return paths
