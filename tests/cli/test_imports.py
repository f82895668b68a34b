"""What a start loads: nothing that it does not need, and nothing that stays changed for the children of the process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from minikube_py.cli.imports import quick_imports

HEAVY = ("dnslib", "google.protobuf", "grpc", "iptc", "jsonpatch", "jwt", "multiprocessing", "pyroute2", "yaml")
"""A control plane starts without these."""


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


def test_a_control_plane_loads_no_more_than_it_needs() -> None:
    loaded = """
import sys, minikube_py.cli.main, minikube_py.server, minikube_py.controllers, minikube_py.scheduler
print(*sys.modules)
"""
    shown = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert "minikube_py.server" in shown
    assert [name for name in HEAVY if name in shown] == []
