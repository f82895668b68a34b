"""What scripts/cluster does: test clusters that stay until they are taken down, each in a directory with the cluster's name."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.cluster import POD_CIDR, ClusterSpec, bring_up, take_down
from tests.support.netns import run
from tests.support.program import find

HOME = Path("/var/lib/minikube-py-clusters")


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 done, 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="scripts/cluster", description="Clusters of real nodes on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    up_ = commands.add_parser("up", help="make a cluster and print the path of its kubeconfig")
    up_.add_argument("--nodes", type=int, default=1, metavar="N", help="how many nodes (1)")
    up_.add_argument("flags", nargs="*", metavar="FLAG", help="after --: flags of the server")
    down_ = commands.add_parser("down", help="take a cluster away")
    for command in (up_, down_):
        command.add_argument("--name", type=_name, default="test", help="the cluster's name (test)")
    commands.add_parser("status", help="the clusters that there are")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        print("a cluster needs root: run it with sudo", file=sys.stderr)
        return 1
    if options.command == "status":
        return status()
    directory = HOME / options.name
    return up(directory, options.nodes, options.flags) if options.command == "up" else down(directory)


def up(directory: Path, nodes: int, flags: Sequence[str]) -> int:
    """Make a cluster; when it does not come up, or this is interrupted, nothing of it stays."""
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        print(f"there is a cluster {directory.name} already: scripts/cluster down --name {directory.name}", file=sys.stderr)
        return 1
    started = time.monotonic()
    try:
        # the pods' addresses are the same in every cluster: this machine reaches those of one
        made = bring_up(directory, ClusterSpec(nodes, flags, reached=not run("ip", "route", "show", POD_CIDR)))
    except BaseException as error:
        take_down(directory)
        print(f"the cluster did not come up: {error}", file=sys.stderr)
        return 1
    (directory / "kubeconfig").symlink_to(made.server.kubeconfig)
    print(f"{', '.join(made.names)} Ready after {time.monotonic() - started:.1f} s", file=sys.stderr)
    print(directory / "kubeconfig")
    return 0


def down(directory: Path) -> int:
    """Take a cluster away; without effect when there is none."""
    if not directory.exists():
        print(f"there is no cluster {directory.name}", file=sys.stderr)
        return 0
    take_down(directory)
    if not any(HOME.iterdir()):
        HOME.rmdir()
    return 0


def status() -> int:
    """Print a line a node: cluster, node, whether its program runs."""
    for directory in sorted(HOME.glob("*")):
        for place in sorted(path.parent for path in directory.glob("*/data")):
            if (program := find(place)) is not None:
                program.close()
            print(f"{directory.name}\t{place.name}\t{'does not run' if program is None else 'runs'}\t{directory / 'kubeconfig'}")
    return 0


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,29}", text):
        raise argparse.ArgumentTypeError("a name is up to 30 small letters, digits and dashes")
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
