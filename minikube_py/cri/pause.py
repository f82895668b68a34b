"""The image that sandboxes run: one static binary, made from pause.c when the package is built, so that no registry is needed for it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from minikube_py.cri.archive import ImageConfig, Layer, image_archive

# A registry that cannot exist, so that the runtime never looks for it elsewhere. The tag counts changes of pause.c.
IMAGE: Final = "minikube-py.internal/pause:1"
ARCHIVE: Final = Path(__file__).parent / "data" / "pause.tar"


def make_archive(binary: bytes) -> bytes:
    """The image archive around the compiled binary."""
    layer = Layer()
    layer.file("pause", binary, 0o755)
    return image_archive(IMAGE, layer.finish(), ImageConfig(entrypoint=("/pause",), user="65535:65535", working_dir="/"))
