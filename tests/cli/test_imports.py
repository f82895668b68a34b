"""What a start loads: nothing that it does not need, and nothing that stays changed for the children of the process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from minikube_py.cli.imports import quick_imports

LIBRARIES = frozenset(
    [
        *("aiohappyeyeballs", "aiohttp", "aiosignal", "aiosqlite", "attr", "click", "cryptography", "frozenlist", "idna", "msgspec"),
        *("multidict", "orjson", "propcache", "typing_extensions", "yarl"),
    ]
)
"""What a control plane loads of other people's. Whatever else there is has to wait until somebody asks for what needs it."""
NODE_LIBRARIES = frozenset({"dnslib", "google", "grpc"})
"""What a node loads beside these."""
OF_NODES = frozenset({"cri", "dns", "kubelet", "netfilter", "netlink", "network", "node", "proxy"})
"""The package's own parts that a control plane starts without."""
HEAVY = frozenset({"distutils", "multiprocessing", "setuptools", "unittest", "xml"})
"""What neither loads of the standard library."""
NOT_LIBRARIES = frozenset({"__main__", "cython_runtime", "minikube_py"})


@pytest.mark.parametrize("before", [None, "/etc/ssl/certs/own.pem"])
def test_the_environment_and_the_collector_are_as_before(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if before is None:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    else:
        monkeypatch.setenv("SSL_CERT_FILE", before)
    try:
        with pytest.raises(ImportError), quick_imports():
            assert not gc.isenabled()
            raise ImportError
        assert os.environ.get("SSL_CERT_FILE") == before
        assert gc.isenabled()
    finally:
        gc.unfreeze()


def _loaded(*further: str) -> frozenset[str]:
    """The names of all modules after the imports of a start."""
    modules = ("minikube_py.cli.main", "minikube_py.server", "minikube_py.controllers", "minikube_py.scheduler", *further)
    command = [sys.executable, "-c", f"import sys, {', '.join(modules)}; print(*sys.modules)"]
    return frozenset(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def _libraries(loaded: frozenset[str]) -> frozenset[str]:
    """Other people's packages among them; what begins with an underscore is a part of one of them."""
    roots = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - NOT_LIBRARIES
    return frozenset(root for root in roots if not root.startswith("_"))


def test_a_control_plane_loads_no_more_than_it_needs() -> None:
    loaded = _loaded()
    assert "minikube_py.server" in loaded
    assert _libraries(loaded) - LIBRARIES == set()
    assert {name for name in loaded if name.startswith("minikube_py.") and name.split(".")[1] in OF_NODES} == set()
    assert HEAVY & loaded == set()


def test_a_node_loads_no_more_than_it_needs() -> None:
    loaded = _loaded("minikube_py.node", "minikube_py.dns")
    assert _libraries(loaded) - LIBRARIES - NODE_LIBRARIES == set()
    assert HEAVY & loaded == set()


def test_the_command_line_alone_loads_no_server() -> None:
    """--help, version and token answer at once."""
    command = [sys.executable, "-c", "import sys, minikube_py.cli.main; print(*sys.modules)"]
    loaded = frozenset(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert _libraries(loaded) - {"click", "msgspec", "typing_extensions"} == set()
    assert "asyncio" not in loaded
