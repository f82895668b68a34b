"""Makes the data that the package ships but the repository does not hold: one small module per kind of data under build_steps/.

Each step is a module with `build(root: Path) -> None`, independent of the others, which writes below `root` (the tree that is being built)
and is quick when nothing changed. hatchling calls them when it builds a wheel or an editable install; `python scripts/build_hook.py
[STEP…]` calls them by hand.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # run by hand where the build backend is not installed

    class BuildHookInterface:  # type: ignore[no-redef]
        """Stands in for hatchling's base class."""


def run(root: Path, only: tuple[str, ...] = ()) -> None:
    """Run the steps in the order of their names: all, or those named."""
    for path in sorted((root / "scripts" / "build_steps").glob("*.py")):
        if path.stem.startswith("_") or (only and path.stem not in only):
            continue
        spec = importlib.util.spec_from_file_location(f"build_steps_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.build(root)


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg,misc,unused-ignore]
    """What hatchling loads from this file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the data before the files are collected. An sdist carries sources only."""
        if self.target_name == "sdist":
            return
        run(Path(self.root))


if __name__ == "__main__":
    run(Path(__file__).resolve().parent.parent, tuple(sys.argv[1:]))
