"""How commands take options: each is a flag, an environment variable MINIKUBE_PY_<NAME> and a key of the YAML file, in this order."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from minikube_py.config import DEFAULT_CONFIG_FILE

F = TypeVar("F", bound=Callable[..., Any])


def _split(value: Any) -> tuple[str, ...]:
    if isinstance(value, list | tuple):
        return tuple(str(v) for v in value)
    return tuple(part for part in str(value).split(",") if part)


class _ListOption(click.Option):
    """A repeatable flag whose environment variable and file key hold all values at once."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        if value is None:
            return ()
        if isinstance(value, str):
            value = [value]
        return tuple(part for each in value for part in _split(each))

    def value_from_envvar(self, ctx: click.Context) -> Any:
        return self.resolve_envvar_value(ctx)


def option(name: str, help_text: str, **settings: Any) -> Callable[[F], F]:
    """One option with its environment variable; `many=True` makes it repeatable."""
    variable = "MINIKUBE_PY_" + name.removeprefix("--").replace("-", "_").upper()
    if settings.pop("many", False):
        settings |= {"cls": _ListOption, "multiple": True}
    settings.setdefault("show_default", settings.get("default") is not None)
    return click.option(name, envvar=variable, help=help_text, **settings)


def config_option(function: F) -> F:
    """--config: the YAML file with the same keys as the flags; read before all other options are resolved."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        path = Path(value) if value else DEFAULT_CONFIG_FILE
        if not value and not path.exists():
            return
        ctx.default_map = {**(ctx.default_map or {}), **_read_file(path, ctx)}

    return click.option(
        "--config",
        "-c",
        envvar="MINIKUBE_PY_CONFIG",
        expose_value=False,
        is_eager=True,
        callback=read,
        metavar="FILE",
        help=f"YAML file with the same keys as the flags.  [default: {DEFAULT_CONFIG_FILE}, where it exists]",
    )(function)


def _read_file(path: Path, ctx: click.Context) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise click.UsageError(f"cannot read the configuration file {path}: {os.strerror(error.errno or 0)}") from error
    except yaml.YAMLError as error:
        raise click.UsageError(f"the configuration file {path} is not YAML: {error}".replace("\n", " ")) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise click.UsageError(f"the configuration file {path} must hold keys and values")
    known = _names(ctx.find_root().command) | {p.name for p in ctx.command.params}
    values = {str(key).replace("-", "_"): value for key, value in content.items()}
    for key in values:
        if key not in known or key == "config":
            raise click.UsageError(f"the configuration file {path} has an unknown key: {key.replace('_', '-')}")
    mine = {p.name for p in ctx.command.params}
    return {key: value if isinstance(value, bool | list) else str(value) for key, value in values.items() if key in mine}


def _names(command: click.Command) -> set[str | None]:
    """What a command and those below it may be told: they share the file."""
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return {p.name for p in command.params}.union(*(_names(child) for child in below))
