"""The entry point: the group of commands, and errors as one line that says what to do.

Exit codes: 0 done, 1 the thing failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from minikube_py.cli.agent import agent
from minikube_py.cli.kubeconfig import kubeconfig
from minikube_py.cli.server import server
from minikube_py.cli.shutdown import shutdown
from minikube_py.cli.token import token
from minikube_py.cli.version import version


class Commands(click.Group):
    """A group whose errors are one line, wrong usage too: click's own take four."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line and exit."""
        kwargs["standalone_mode"] = False
        try:
            sys.exit(super().main(*args, **kwargs))
        except click.ClickException as error:
            message = error.format_message()
            if isinstance(error, click.UsageError) and error.ctx is not None and "\n" not in message:
                message = f"{message.rstrip('.')} (see {error.ctx.command_path} --help)"
            # without any argument the message is the help
            click.echo(message if "\n" in message else f"Error: {message}", err=True)
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """Kubernetes in one Python process."""


main.add_command(server)
main.add_command(agent)
main.add_command(token)
main.add_command(shutdown)
main.add_command(kubeconfig)
main.add_command(version)
