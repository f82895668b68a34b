"""File systems on block devices of the node: an empty device gets one, another one is checked, and then it is mounted.

A device that holds anything is never formatted: blkid must have found nothing at all on it. Blocking: called in a thread.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

_EMPTY = 2  # blkid's exit code: there is nothing that it knows
_BROKEN = 4  # fsck's: errors that it could not correct
_FORCE = {"ext3": ("-F", "-m0"), "ext4": ("-F", "-m0"), "xfs": ("-f",)}
PARTITIONS = "unknown data, probably partitions"


def format_and_mount(device: str, target: Path, kind: str, options: Sequence[str]) -> None:
    """Mount a device, with a new file system where it has none. Raises OSError, ValueError with upstream's words."""
    read_only = "ro" in options
    try:
        found = found_by(*_run("blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", device))
    except (OSError, ValueError) as error:
        raise ValueError(f"failed to get disk format of disk {device}: {error}") from error
    if not found:
        if read_only:
            raise ValueError(f"cannot mount unformatted disk {device} as we are manipulating it in read-only mode")
        code, text = _run(f"mkfs.{kind}", *_FORCE.get(kind, ()), device)
        if code != 0:
            where = f'type:("{kind}") target:("{target}") options:("{",".join((*options, "defaults"))}")'
            raise ValueError(f'format of disk "{device}" failed: {where} errcode:(exit status {code}) output:({text}) ')
        log.info("device formatted", extra={"device": device, "type": kind})
    elif not read_only:
        _check(device)
    mount(device, target, ("-t", kind), (*options, "defaults"))


def mount(source: str, target: Path, kind: Sequence[str], options: Sequence[str]) -> None:
    """mount(8), which knows the options of every file system. Raises ValueError."""
    arguments = (*kind, "-o", ",".join(options), source, str(target))
    code, text = _run("mount", *arguments)
    if code != 0:
        what = f"Mounting command: mount\nMounting arguments: {' '.join(arguments)}\nOutput: {text}"
        raise ValueError(f"mount failed: exit status {code}\n{what}")


def found_by(code: int, text: str) -> str:
    """What blkid found on a device: the type of its file system, PARTITIONS, or nothing. Raises ValueError when it could not say."""
    if code == _EMPTY:
        return ""
    if code != 0:
        raise ValueError(f"exit status {code}")
    found = {}
    for line in filter(None, text.split("\n")):
        key, sign, value = line.partition("=")
        if not sign or "=" in value:
            raise ValueError(f"blkid returns invalid output: {text}")
        found[key] = value
    return PARTITIONS if found.get("PTTYPE") else found.get("TYPE", "")


def _check(device: str) -> None:
    try:
        code, text = _run("fsck", "-a", device)
    except OSError as error:
        log.warning("a file system is mounted without a check", extra={"device": device, "error": str(error)})
        return
    if code == _BROKEN:
        raise ValueError(f"'fsck' found errors on device {device} but could not correct them: {text}")
    if code:
        log.info("fsck", extra={"device": device, "code": code, "output": text})


def _run(*command: str) -> tuple[int, str]:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    return done.returncode, done.stdout
