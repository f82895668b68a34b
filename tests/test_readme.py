"""The README and the code say the same: flags, commands, paths, benchmarks."""

import re
from pathlib import Path

import click
import pytest

from minikube_py import config
from minikube_py.cli.main import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """The text below a heading, up to the next of its level or above."""
    level = re.search(rf"^(#+) {re.escape(title)}$", README, re.M)
    assert level is not None, title
    rest = README[level.end() :]
    following = re.search(rf"^#{{1,{len(level[1])}}} ", rest, re.M)
    return rest[: following.start()] if following else rest


def flags(command: click.Command) -> set[str]:
    return {name for p in command.params if isinstance(p, click.Option) for name in p.opts if name.startswith("--")} - {"--help"}


@pytest.mark.parametrize("command", ["server", "agent"])
def test_every_flag_is_in_its_commands_table_and_every_one_there_exists(command: str) -> None:
    lines = (section(f"Settings of the {command}") + section("Settings of a node")).splitlines()
    rows = [line.split("|")[1] for line in lines if line.startswith("| `")]
    documented = {flag for row in rows for flag in re.findall(r"`(--[a-z-]+)`", row)}
    assert documented == flags(main.commands[command])


def test_every_command_is_in_the_table_and_every_one_there_exists() -> None:
    def paths(command: click.Command, prefix: str) -> set[str]:
        if isinstance(command, click.Group):
            return {path for name, child in command.commands.items() for path in paths(child, f"{prefix} {name}".strip())}
        return {prefix}

    documented = set(re.findall(r"^\| `minikube-py ([a-z ]+)`", section("By hand"), re.M))
    assert documented == paths(main, "")


def test_the_components_that_can_be_disabled_are_named() -> None:
    row = next(line for line in README.splitlines() if line.startswith("| `--disable` "))
    assert set(re.findall(r"`([a-z][a-z-]*)`", row)) == set(config.COMPONENTS)


@pytest.mark.parametrize("command", ["server", "agent"])
def test_the_defaults_are_the_codes(command: str) -> None:
    defaults = {p.name: p.default for p in main.commands[command].params}
    for line in (section(f"Settings of the {command}") + section("Settings of a node")).splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        flag = re.fullmatch(r"`--([a-z-]+)`", cells[1]) if len(cells) > 3 else None
        value = re.fullmatch(r"`([^`]+)`", cells[2]) if flag else None
        if flag and value:
            assert str(defaults[flag[1].replace("-", "_")]) == value[1], flag[1]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:scripts|minikube_py|examples|systemd|docs)/[\w./-]*)", README))))
def test_every_path_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()
