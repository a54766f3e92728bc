"""Measured work in a process of its own: a fresh interpreter, an honest memory peak, an empty home.

``in_child("benchmarks.ingest:ours", ...)`` runs that function there with keyword arguments that JSON can
carry, and returns what it returns.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "environment", "in_child"]

ROOT = Path(__file__).resolve().parents[1]
_MARK = "result: "


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a process that neither reads nor writes the user's own files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMNIMEMORY_", "XDG_"))}
    # An installed package is compiled; a checkout must be allowed to be, or each start would compile it anew.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "HOME": str(home)}


def in_child(function: str, home: Path, *, python: str | None = None, **arguments: Any) -> Any:
    """Call ``module:function`` in a new process, of another Python if one is named, and return its result."""
    home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [python or sys.executable, "-m", "benchmarks.children", function, json.dumps(arguments)],
        cwd=ROOT,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    marked = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode or not marked:
        raise RuntimeError(f"{function} ended with {done.returncode}; what went wrong stands above")
    return json.loads(marked[-1].removeprefix(_MARK))


def main() -> None:
    """Run what the command line names."""
    module, _, name = sys.argv[1].partition(":")
    result = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
    print(_MARK + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
