"""Generates the Python modules of the gRPC services that the node speaks, from minikube_py/cri/proto.

`proto/api.proto` becomes minikube_py/cri/v1 (CRI) and `proto/native/*.proto` becomes minikube_py/cri/native (containerd's own services),
with type stubs beside them. protoc sees the files under those package paths, so that the generated imports are absolute imports of the
package. Nothing is generated when no .proto changed.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

TARGETS = {"minikube_py/cri/v1": "minikube_py/cri/proto", "minikube_py/cri/native": "minikube_py/cri/proto/native"}


def build(root: Path) -> None:
    """Generate both packages below `root`."""
    for target, source in TARGETS.items():
        _generate(root, target, sorted((root / source).glob("*.proto")))


def _generate(root: Path, target: str, sources: list[Path]) -> None:
    out, stamp = root / target, root / target / ".made-from"
    digest = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in [Path(__file__), *sources])).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.py*"):
        if old.is_file():
            old.unlink()
    _protoc(root, target, sources)
    (out / "__init__.py").write_text('"""Made by the build step from minikube_py/cri/proto; not to be edited."""\n')
    stamp.write_text(digest)


def _protoc(root: Path, target: str, sources: list[Path]) -> None:
    import grpc_tools
    from grpc_tools import protoc

    plugins = [f"--python_out={root}", f"--grpc_python_out={root}"]
    mypy = shutil.which("protoc-gen-mypy") or shutil.which("protoc-gen-mypy", path=str(Path(sys.executable).parent))
    if mypy:  # type stubs are for the checker: a build without them works the same
        plugins += [f"--plugin=protoc-gen-mypy={mypy}", f"--mypy_out=quiet:{root}"]
        plugins += [f"--plugin=protoc-gen-mypy_grpc={mypy}_grpc", f"--mypy_grpc_out=quiet:{root}"]
    include = Path(next(iter(grpc_tools.__path__))) / "_proto"
    names = [f"{target}/{path.name}" for path in sources]
    if protoc.main(["protoc", f"-I{target}={sources[0].parent}", f"-I{include}", *plugins, *names]) != 0:
        raise RuntimeError(f"protoc failed for {target}")
