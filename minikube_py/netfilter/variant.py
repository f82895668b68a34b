"""Which kernel interface this network namespace uses: legacy xtables, or nftables through iptables' nft front end.

Rules of both apply together and disagree about order, so one namespace uses one variant, decided once: legacy where the kernel has it (and
python-iptables can speak it), nft where it has not or where KUBE chains are there already.
"""

from __future__ import annotations

import asyncio
import enum
import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path


class Variant(enum.Enum):
    """The kernel interface, by the name that iptables gives its programs."""

    LEGACY = "legacy"
    NFT = "nft"


class Family(enum.Enum):
    """The address family; the value is the name of its iptables program."""

    IPV4 = "iptables"
    IPV6 = "ip6tables"

    @property
    def bits(self) -> int:
        """The length of a host's prefix."""
        return 32 if self is Family.IPV4 else 128


def program(family: Family, variant: Variant, action: str) -> str:
    """The name of the program: iptables-legacy-restore, ip6tables-nft-save, …"""
    return f"{family.value}-{variant.value}-{action}"


class NoIptables(Exception):
    """iptables is not installed; the message says what to do."""


async def detect() -> Variant:
    """The variant for this network namespace. Raises NoIptables."""
    if shutil.which(program(Family.IPV4, Variant.NFT, "save")) is None:
        raise NoIptables("iptables is not installed: apt-get install iptables")
    if await _nft_in_use():
        return Variant.NFT
    return Variant.LEGACY if await _legacy_works() else Variant.NFT


async def _nft_in_use() -> bool:
    process = await asyncio.create_subprocess_exec(
        program(Family.IPV4, Variant.NFT, "save"), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    return process.returncode == 0 and b"\n:KUBE-" in out


async def _legacy_works() -> bool:
    """Ask python-iptables, in a process of its own: it loads tens of MiB, and libxtables ends its process where it is displeased.

    In this environment it loads in a fifth of the time. It wants distutils, for which setuptools would put its own unless it is told at the
    start of the process; and it looks for its own library with the help of gcc unless it is told where that is.
    """
    environment = {"SETUPTOOLS_USE_DISTUTILS": "stdlib", "IPTABLES_LIBDIR": sysconfig.get_path("platlib"), **os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(Path(__file__).with_name("legacy.py"))),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    if process.returncode != 0:
        return False
    return {"nat", "filter"} <= set(json.loads(out))
