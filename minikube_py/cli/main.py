"""The entry point: the group of commands, and errors as one line that says what to do.

Exit codes: 0 done, 1 the thing failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import click

from minikube_py.cli.agent import agent
from minikube_py.cli.kubeconfig import kubeconfig
from minikube_py.cli.server import server
from minikube_py.cli.token import token
from minikube_py.cli.version import version


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """Kubernetes in one Python process."""


main.add_command(server)
main.add_command(agent)
main.add_command(token)
main.add_command(kubeconfig)
main.add_command(version)
