"""`minikube-py kubeconfig`: print the administrator's kubeconfig of the server on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import click

from minikube_py.cli.options import config_option, option
from minikube_py.config import DEFAULT_DATA_DIR


@click.command()
@config_option
@option("--data-dir", "The server's data directory.", default=str(DEFAULT_DATA_DIR), metavar="DIR")
@click.option("--server", "address", metavar="URL", help="Use another address for the server, as seen from where the file will be used.")
def kubeconfig(data_dir: str, address: str | None) -> None:
    """Print the administrator's kubeconfig.

    It gives full rights over the cluster: keep it to yourself.
    """
    path = Path(data_dir) / "server" / "cred" / "admin.kubeconfig"
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise click.ClickException(
            f"there is no server in {data_dir} yet: start one with 'minikube-py server --data-dir {data_dir}'"
        ) from None
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {os.strerror(error.errno or 0)} (are you root?)") from None
    if address:
        import yaml

        content = yaml.safe_load(text)
        for cluster in content["clusters"]:
            cluster["cluster"]["server"] = address
        text = yaml.safe_dump(content, sort_keys=False)
    click.echo(text, nl=False)
