"""`minikube-py version`."""

from __future__ import annotations

import platform

import click

from minikube_py import __version__
from minikube_py.meta.version import KUBERNETES_VERSION


@click.command()
def version() -> None:
    """Print the version of this program and of Kubernetes."""
    click.echo(f"minikube-py {__version__}\nKubernetes {KUBERNETES_VERSION}\nPython {platform.python_version()}")
