"""What the tests of folders share: making files, and what a walk says of them."""

from __future__ import annotations

import os
from pathlib import Path

from omnimemory.records import Failure
from omnimemory.sources.documents import Found, Limits, walk

DEFAULT = Limits()


def make(root: Path, *files: str, text: str = "words\n") -> None:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(root: Path, limits: Limits = DEFAULT) -> list[str]:
    return [os.path.relpath(item.uri, root.resolve()) for item in walk(root, limits) if isinstance(item, Found)]


def failures(root: Path, limits: Limits = DEFAULT) -> dict[str, Failure]:
    return {Path(item.source).name: item for item in walk(root, limits) if isinstance(item, Failure)}
