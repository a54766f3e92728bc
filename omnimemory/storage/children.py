"""Child processes that run a module of this package."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

__all__ = ["child_environment", "python_child"]


def python_child(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package in another process of the same Python.

    To be started in the store's directory: chromadb reads a ``.env`` where it is imported.
    """
    # -P: a module lying in the working directory must not be imported in place of the real one.
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment() -> dict[str, str]:
    """Return an environment in which such a child imports the same package as this process.

    One arena for all of Chroma's threads (glibc's default: eight for each core) kept the child 15 to 35 MB
    smaller, at the same speed. The child computes nothing with numpy, whose threads would only take room.
    """
    root = str(Path(__file__).resolve().parents[2])
    paths = [path for path in (os.environ.get("PYTHONPATH"),) if path]
    # An installed package is found anyway, and its folder must not come before the standard library.
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        paths.insert(0, root)
    return {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(paths)}
