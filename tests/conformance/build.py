"""Builds upstream's test binary, Ginkgo's command line and agnhost from the module beside this file, with the machine's Go toolchain.

Go's own caches make a second build incremental; a build whose module files have not changed is not even started.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MODULE = Path(__file__).parent
_VERSION = "k8s.io/component-base/version"  # where the binary keeps the version that it reports


class NoToolchain(Exception):
    """There is no Go toolchain on this machine."""


@dataclass(frozen=True)
class Programs:
    """What a run needs."""

    tests: Path  # upstream's end-to-end tests
    ginkgo: Path
    agnhost: Path  # what most test pods run


def cache_directory() -> Path:
    """Where the programs are kept from run to run."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minikube-py-conformance"


def release() -> str:
    """The version of upstream's tests, as the module requires it: 'v1.36.3'."""
    for line in (MODULE / "go.mod").read_text().splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "k8s.io/kubernetes":
            return words[1]
    raise ValueError("go.mod requires no k8s.io/kubernetes")


def build() -> Programs:
    """Build what has changed. Raises NoToolchain, subprocess.CalledProcessError."""
    directory = cache_directory()
    directory.mkdir(parents=True, exist_ok=True)
    programs = Programs(directory / "e2e.test", directory / "ginkgo", directory / "agnhost")
    go = toolchain()
    wanted = _fingerprint(go)
    stamp = directory / "stamp"
    if stamp.exists() and stamp.read_text() == wanted and all(p.exists() for p in (programs.tests, programs.ginkgo, programs.agnhost)):
        return programs
    major, minor, _ = release().removeprefix("v").split(".")
    version = f"-X {_VERSION}.gitVersion={release()} -X {_VERSION}.gitMajor={major} -X {_VERSION}.gitMinor={minor}"
    for command in (
        ("test", "-c", "-o", programs.tests, "-ldflags", f"-s -w {version}", "."),
        ("build", "-o", programs.ginkgo, "-ldflags", "-s -w", "github.com/onsi/ginkgo/v2/ginkgo"),
        ("build", "-o", programs.agnhost, "-ldflags", f"-s -w {version}", "k8s.io/kubernetes/test/images/agnhost"),
    ):
        subprocess.run(["nice", "-n", "19", go, *command], cwd=MODULE, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
    stamp.write_text(wanted)
    return programs


def toolchain() -> str:
    """The go command. Raises NoToolchain."""
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        raise NoToolchain("there is no Go toolchain: install Go 1.26 or newer (https://go.dev/dl) and have `go` on the PATH")
    return found


def _fingerprint(go: str) -> str:
    digest = hashlib.sha256(subprocess.run([go, "version"], capture_output=True, check=True).stdout)
    for path in sorted((*MODULE.glob("*.go"), MODULE / "go.mod", MODULE / "go.sum")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
