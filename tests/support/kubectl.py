"""The unmodified kubectl, as Debian builds it: fetched once through apt into a cache folder and unpacked, never installed.

apt is given a configuration, lists and a cache of its own, with the mirror that this machine's own sources name; those stay as they are.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from functools import cache
from pathlib import Path

CURRENT = "sid"  # 1.36
OLDER = "trixie"  # 1.32

_PACKAGES = ("kubectl", "kubernetes-client")  # which of them has the program differs by release


@cache
def kubectl(suite: str = CURRENT) -> Path:
    """The program from a Debian release. The first call on a machine takes some seconds."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minikube-py-tests" / f"kubectl-{suite}"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        program = home / "root" / "usr" / "bin" / "kubectl"
        if not program.exists():
            _fetch(home, suite)
        assert program.exists(), f"Debian {suite} has no kubectl in {' or '.join(_PACKAGES)}"
    return program


def version(program: Path) -> str:
    """What the program says of itself: 'v1.36.4'."""
    text = subprocess.run([program, "version", "--client"], capture_output=True, text=True, check=True, timeout=30).stdout
    match = re.search(r"v\d+\.\d+\.\d+", text)
    assert match is not None, text
    return match[0]


def fetch(home: Path, suite: str, packages: tuple[str, ...]) -> Path:
    """Unpack packages of a Debian release below `home`/root, the ones that it has."""
    for name in ("lists/partial", "archives/partial", "debs"):
        (home / name).mkdir(parents=True, exist_ok=True)
    source, key = mirror()
    options = f"[signed-by={key}] " if key else ""
    (home / "sources.list").write_text(f"deb {options}{source} {suite} main\n")
    config = home / "apt.conf"
    config.write_text(
        f'Dir::Etc::sourcelist "{home}/sources.list"; Dir::Etc::sourceparts "/dev/null"; Dir::State::lists "{home}/lists"; '
        f'Dir::Cache "{home}"; Acquire::Languages "none"; Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false"; '
        'APT::Sandbox::User "root"; Dir::State::status "/dev/null"; '
        'Acquire::Check-Valid-Until "false";\n'  # a mirror that has stood still for a week will do: what it has is signed all the same
    )
    environment = {**os.environ, "APT_CONFIG": str(config)}
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True, capture_output=True, timeout=120)
    for package in packages:
        subprocess.run(
            ["apt-get", "download", "-qq", package], env=environment, cwd=home / "debs", check=False, capture_output=True, timeout=120
        )
    for archive in (home / "debs").glob("*.deb"):
        subprocess.run(["dpkg", "-x", archive, home / "root"], check=True, timeout=60)
        archive.unlink()
    return home / "root"


def _fetch(home: Path, suite: str) -> None:
    fetch(home, suite, _PACKAGES)


def mirror() -> tuple[str, str]:
    """The Debian mirror that this machine uses, and the file of its keys where the sources name one."""
    for path in sorted([Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]):
        text = path.read_text() if path.is_file() else ""
        if path.suffix == ".sources":
            for stanza in re.split(r"\n\s*\n", text):
                fields = dict(re.findall(r"^([\w-]+):\s*(.+)$", stanza, re.MULTILINE))
                uri = fields.get("URIs", "").split(" ")[0].rstrip("/")
                if uri.endswith("/debian"):
                    return uri, fields.get("Signed-By", "")
        else:
            for options, uri in re.findall(r"^deb\s+(\[[^\]]*\]\s+)?(\S+)", text, re.MULTILINE):
                if uri.rstrip("/").endswith("/debian"):
                    key = re.search(r"signed-by=(\S+?)[\s\]]", options)
                    return uri, key[1] if key else "/usr/share/keyrings/debian-archive-keyring.gpg"
    raise AssertionError("this machine's apt sources name no Debian mirror")
