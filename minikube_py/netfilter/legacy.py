"""The helper process that speaks to the legacy tables by python-iptables: prints, as JSON, the chains of every table that it can open.

Run as a file, without the package around it, in the environment that variant.py makes. A process of its own, because libxtables ends the
process that displeases it, and because two threads in it do the same. Every node waits for it at its start: it loads no more than it must.
"""

from __future__ import annotations

import json
import sys


def chains() -> dict[str, list[str]]:
    """The chains of the nat, filter and mangle tables; a table that the kernel does not have is left out."""
    import iptc

    found: dict[str, list[str]] = {}
    for name in ("nat", "filter", "mangle"):
        try:
            table = iptc.Table(name)
            found[name] = [chain.name for chain in table.chains]
        except iptc.IPTCError:
            continue
    return found


if __name__ == "__main__":
    json.dump(chains(), sys.stdout)
