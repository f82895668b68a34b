"""The images that the tests' pods run, under upstream's names, made of agnhost, the static busybox and programs of this machine.

Upstream's tests name their images by a registry that a node without internet does not reach: the nodes import these under the same names,
and a registry on the tests' own network serves them to pods that always pull. What the scripts in the pods call beside busybox's programs
(bash, dig, curl, …) is taken from this machine with the libraries that it is linked to.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from minikube_py.cri.archive import ImageConfig, Layer, image_archive
from tests.conformance.build import Programs

_DAY = timedelta(days=1)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TOOLS = ("bash", "curl", "dig", "getent", "hostname", "ip", "nc", "nslookup", "printenv", "ss", "wget")  # before busybox's on the path
_SETUID = b"""
#include <stdio.h>
#include <unistd.h>
int main(void) { return printf("Effective uid: %d\\n", (int)geteuid()) < 0; }
"""
_DIRECTORIES = ("dev", "etc", "home", "proc", "root", "run", "sys", "usr", "usr/bin", "uploads", "var")
_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/sbin/nologin
user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh
"""
_GROUP = "root:x:0:\nnobody:x:65534:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"


def image_names(programs: Programs) -> tuple[str, ...]:
    """The names of all images that upstream's tests know."""
    listed = subprocess.run([programs.tests, "--list-images"], capture_output=True, text=True, check=True)
    return tuple(line.strip() for line in listed.stdout.splitlines() if re.fullmatch(r"\S+/\S+:\S+", line.strip()))


def write_images(directory: Path, programs: Programs) -> None:
    """One archive for each image of the tests' that can be made."""
    directory.mkdir(parents=True, exist_ok=True)
    path = {"PATH": _PATH}
    web = ImageConfig(entrypoint=("/agnhost", "test-webserver"))
    made = {
        "agnhost": (_tools_layer(programs.agnhost), ImageConfig(entrypoint=("/agnhost",), cmd=("pause",), env=path)),
        "glibc-dns-testing": (_tools_layer(programs.agnhost), ImageConfig(cmd=("bash",), env=path)),
        "busybox": (_busybox_layer(), ImageConfig(cmd=("sh",), env=path)),
        "pause": (_bare_layer(programs.agnhost), ImageConfig(entrypoint=("/agnhost", "pause"), user="65535:65535")),
        "nginx": (_shell_layer(programs.agnhost), web),  # its pods are there to be counted, and as a shell to debug with
        "nautilus": (_web_layer(programs.agnhost, "nautilus.jpg"), web),
        "kitten": (_web_layer(programs.agnhost, "kitten.jpg"), web),
        "nonewprivs": (_setuid_layer(), ImageConfig(entrypoint=("/nnp",), user="1000")),
        "nonroot": (_busybox_layer(), ImageConfig(cmd=("id",), env=path, user="1234")),
    }
    for name in image_names(programs):
        short, _, tag = name.rpartition("/")[2].partition(":")
        if short in made and not name.startswith(("gcr.io/k8s-authenticated-test", "invalid.")):
            (directory / f"{short}-{tag}.tar").write_bytes(image_archive(name, *made[short]))


@cache
def _busybox_layer() -> bytes:
    layer = Layer()
    _busybox(layer)
    # Debian's shell drops variables from the environment that no shell could name, upstream's passes them on: bash, where tests call "sh".
    layer.symlink("usr/local/bin/sh", "/usr/bin/bash")
    _program(layer, "bash")
    return layer.finish()


@cache
def _bare_layer(program: Path) -> bytes:
    layer = Layer()
    _agnhost(layer, program)
    return layer.finish()


@cache
def _shell_layer(program: Path) -> bytes:
    layer = Layer()
    _busybox(layer)
    _agnhost(layer, program)
    return layer.finish()


@cache
def _tools_layer(program: Path) -> bytes:
    layer = Layer()
    _busybox(layer, without=("sh",))  # busybox's shell runs its own programs, whatever the path
    layer.symlink("bin/sh", "/usr/bin/bash")
    layer.symlink("bin/bash", "/usr/bin/bash")
    for name in _TOOLS:
        _program(layer, name)
    layer.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    certificate, key = _localhost()
    layer.file("localhost.crt", certificate)
    layer.file("localhost.key", key, 0o600)
    _agnhost(layer, program)
    return layer.finish()


@cache
def _setuid_layer() -> bytes:
    """A program that belongs to root, runs as its owner where that is allowed, and says whom it runs as."""
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "nnp"
        subprocess.run(["cc", "-static", "-Os", "-s", "-x", "c", "-o", program, "-"], input=_SETUID, check=True)
        layer = Layer()
        layer.file("nnp", program.read_bytes(), 0o4755)
        return layer.finish()


@cache
def _web_layer(program: Path, picture: str) -> bytes:
    layer = Layer()
    _agnhost(layer, program)
    layer.file("data.json", f'{{\n    "image": "{picture}"\n}}\n'.encode())
    layer.file("etc/os-release", b'NAME="Alpine Linux"\n')  # a test reads it from the mounted image
    return layer.finish()


def _localhost() -> tuple[bytes, bytes]:
    """A certificate for localhost that signs itself, and its key: what agnhost's TLS servers use unless told otherwise."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - _DAY, now + 365 * _DAY)
    certificate = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False).sign(key, hashes.SHA256())
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return certificate.public_bytes(pem), key.private_bytes(pem, pkcs8, plain)


def _agnhost(layer: Layer, program: Path) -> None:
    layer.file("agnhost", program.read_bytes(), 0o755)
    layer.symlink("agnhost-2", "agnhost")


def _busybox(layer: Layer, without: Collection[str] = ()) -> None:
    binary = shutil.which("busybox", path="/bin:/usr/bin")
    assert binary is not None, "apt-get install busybox-static"
    layer.directory("tmp", 0o1777)
    for name in _DIRECTORIES:
        layer.directory(name)
    layer.directory("var/tmp", 0o1777)
    layer.file("etc/passwd", _PASSWD.encode())
    layer.file("etc/group", _GROUP.encode())
    layer.file("bin/busybox", Path(binary).read_bytes(), 0o755)
    for applet in subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox" and applet not in without:
            layer.symlink(f"bin/{applet}", "busybox")


def _program(layer: Layer, name: str) -> None:
    """A program of this machine and the libraries that it needs."""
    path = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    assert path is not None, f"the tests' pods call {name}: install it (scripts/packages conformance)"
    layer.file(f"usr/bin/{name}", Path(path).read_bytes(), 0o755)
    linked = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+\.so\S*)", linked):
        if not layer.has(library):
            layer.file(library, Path(library).resolve().read_bytes(), 0o755)
