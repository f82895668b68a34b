"""Compiles the sandbox's process from minikube_py/cri/pause.c, statically, and packs it into an image archive.

The result is minikube_py/cri/data/pause.tar. It is for the machine that builds it. Nothing is compiled when nothing
changed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = ("pause.c", "pause.py", "archive.py")


def build(root: Path) -> None:
    """Make the archive below `root`. Raises RuntimeError when there is no C compiler."""
    package = root / "minikube_py" / "cri"
    archive, stamp = package / "data" / "pause.tar", package / "data" / ".pause-made-from"
    digest = hashlib.sha256(platform.machine().encode() + b"".join((package / name).read_bytes() for name in SOURCES)).hexdigest()
    if archive.exists() and stamp.exists() and stamp.read_text() == digest:
        return
    archive.parent.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(root))
    try:
        from minikube_py.cri.pause import make_archive
    finally:
        sys.path.remove(str(root))
    archive.write_bytes(make_archive(_compile(package / "pause.c")))
    stamp.write_text(digest)


def _compile(source: Path) -> bytes:
    compiler = os.environ.get("CC", "cc")
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "pause"
        try:
            subprocess.run([compiler, "-Os", "-Wall", "-static", "-s", "-o", str(binary), str(source)], check=True)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            raise RuntimeError(f"cannot compile {source.name} ({error}): apt-get install gcc libc6-dev") from error
        return binary.read_bytes()
