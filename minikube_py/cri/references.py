"""Image references, as people write them and as containerd stores them. Pure."""

from __future__ import annotations


def normalize(reference: str) -> str:
    """The full form of a reference: registry, repository and tag or digest ('busybox' -> 'docker.io/library/busybox:latest')."""
    name, at, digest = reference.partition("@")
    first, slash, rest = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    elif first in ("docker.io", "index.docker.io"):
        name = f"docker.io/{rest}" if "/" in rest else f"docker.io/library/{rest}"
    if not at and ":" not in name.rpartition("/")[2]:
        name += ":latest"
    return name + at + digest
