"""`minikube-py token`: what further machines join with. Speaks to the API as the administrator of the server on this machine."""

from __future__ import annotations

import hashlib
import os
import secrets
import string
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from minikube_py.cli.options import config_option, option
from minikube_py.config import DEFAULT_DATA_DIR, ConfigError, parse_duration

if TYPE_CHECKING:
    from minikube_py.client import Client

T = TypeVar("T")
_ALPHABET = string.ascii_lowercase + string.digits

_data_dir = option("--data-dir", "The server's data directory.", default=str(DEFAULT_DATA_DIR), metavar="DIR")


@click.group()
def token() -> None:
    """Create, list and delete the tokens that further machines join with."""


@token.command()
@config_option
@_data_dir
@click.option("--ttl", default="24h", metavar="DURATION", show_default=True, help="How long the token is good for (2h30m); 0 for ever.")
@click.option("--description", default="", metavar="TEXT", help="What it is for.")
@click.option(
    "--group", "groups", multiple=True, metavar="GROUP", help="A further group of who shows it: system:bootstrappers:… (repeatable)."
)
@click.argument("value", required=False, metavar="[TOKEN]")
def create(data_dir: str, ttl: str, description: str, groups: tuple[str, ...], value: str | None) -> None:
    """Create a token and print it, ready for `minikube-py agent --token`.

    TOKEN is the token's own part, [a-z0-9]{6}.[a-z0-9]{16}; a random one by default.
    """
    from minikube_py.meta import bootstraptoken
    from minikube_py.meta.bootstraptoken import BootstrapToken, InvalidGroups, JoinToken
    from minikube_py.types.core import Secret
    from minikube_py.types.meta import timestamp

    wanted = bootstraptoken.parse(value) if value else BootstrapToken(_random(6), _random(16))
    if wanted is None:
        raise click.UsageError("TOKEN must be of the form [a-z0-9]{6}.[a-z0-9]{16}")
    try:
        seconds = parse_duration("--ttl", ttl)
        expiration = timestamp(time.time() + seconds) if seconds else ""
        body = bootstraptoken.secret(wanted, expiration=expiration, groups=groups, description=description)
    except (ConfigError, InvalidGroups) as error:
        raise click.UsageError(str(error)) from None
    authority = _call(data_dir, lambda client: client.create(Secret, body, bootstraptoken.NAMESPACE))[0]
    click.echo(JoinToken(hashlib.sha256(authority).hexdigest(), str(wanted)))


@token.command("list")
@config_option
@_data_dir
def list_(data_dir: str) -> None:
    """List the tokens, without their secret parts."""
    from minikube_py.meta import bootstraptoken
    from minikube_py.types.core import Secret
    from minikube_py.types.meta import timestamp

    selector = f"type={bootstraptoken.SECRET_TYPE}"
    found = _call(data_dir, lambda client: client.list(Secret, bootstraptoken.NAMESPACE, field_selector=selector))[1].items
    rows = [("TOKEN ID", "EXPIRES", "USAGES", "EXTRA GROUPS", "DESCRIPTION")]
    for secret in sorted(found, key=lambda s: s.metadata.name):
        data = secret.data
        ends = bootstraptoken.expires(data)
        expires = "<never>" if ends is None else timestamp(ends) + (" (expired)" if ends <= time.time() else "")
        usages = [usage for usage in bootstraptoken.USAGES if bootstraptoken.text(data, f"usage-bootstrap-{usage}") == "true"]
        groups, description = bootstraptoken.text(data, "auth-extra-groups"), bootstraptoken.text(data, "description")
        rows.append(
            (bootstraptoken.text(data, "token-id"), expires, ",".join(usages) or "<none>", groups or "<none>", description or "<none>")
        )
    _print_table(rows)


@token.command()
@config_option
@_data_dir
@click.argument("tokens", nargs=-1, required=True, metavar="TOKEN...")
def delete(data_dir: str, tokens: tuple[str, ...]) -> None:
    """Delete tokens, by id or as they were printed. Machines that have joined stay."""
    from minikube_py.meta import bootstraptoken
    from minikube_py.types.core import Secret

    async def remove(client: Client) -> None:
        for text in tokens:
            joined = bootstraptoken.parse_join_token(text)
            name = (joined.token if joined else text).partition(".")[0]
            await client.delete(Secret, bootstraptoken.NAME_PREFIX + name, bootstraptoken.NAMESPACE)
            click.echo(f"token {name} deleted")

    _call(data_dir, remove)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _call(data_dir: str, work: Callable[[Client], Awaitable[T]]) -> tuple[bytes, T]:
    """Do something as the administrator; the certificate that the server is trusted by, and what the work gave."""
    import asyncio

    from minikube_py.client import Client
    from minikube_py.client.http import HttpTransport
    from minikube_py.client.kubeconfig import KubeconfigError, load
    from minikube_py.client.transport import TransportError
    from minikube_py.meta.errors import StatusError

    path = Path(data_dir) / "server" / "cred" / "admin.kubeconfig"
    try:
        config = load(path)
    except FileNotFoundError:
        raise click.ClickException(f"there is no server in {data_dir}: run this on the server's machine, with its --data-dir") from None
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {os.strerror(error.errno or 0)} (are you root?)") from None
    except KubeconfigError as error:
        raise click.ClickException(str(error)) from None

    async def run() -> T:
        client = Client(HttpTransport(config.server, config.context(), token=config.token, timeout=20))
        try:
            return await work(client)
        finally:
            await client.close()

    try:
        return config.authority, asyncio.run(run())
    except StatusError as error:
        raise click.ClickException(error.message) from None
    except TransportError as error:
        raise click.ClickException(f"{error}: does the server run?") from None


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
