"""What the tables are made from: manual pages inside of Debian packages (or in a folder), and files of examples."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["PageSource", "pages_of_folder", "pages_of_packages"]

SECTIONS = ("man1/", "man8/")  # commands of users and of administrators
LARGEST = 4_000_000  # bytes of a page


class PageSource(NamedTuple):
    """The source of a manual page; ``title`` is its file's name without the section."""

    title: str
    text: str


def pages_of_packages(folder: Path) -> Iterator[PageSource]:
    """Yield the pages inside of the ``*.deb`` files of a folder, in the order of their names."""
    for package in sorted(folder.glob("*.deb")):
        archive = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True).stdout  # noqa: S607 - whichever dpkg is installed
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            for member in files:
                part = member.name.rpartition("/man/")[2]
                if member.isfile() and part.startswith(SECTIONS) and member.size < LARGEST:
                    content = files.extractfile(member)
                    assert content is not None  # it is a file
                    yield page_source(Path(member.name).name, content.read())


def pages_of_folder(folder: Path) -> Iterator[PageSource]:
    """Yield the pages in a folder (``name.1``, ``name.8``, packed or not), in the order of their paths."""
    for path in sorted(folder.rglob("*.[18]*")):
        if path.is_file():
            yield page_source(path.name, path.read_bytes())


def page_source(name: str, data: bytes) -> PageSource:
    """Return a page's source from its file."""
    if name.endswith(".gz"):
        name, data = name.removesuffix(".gz"), gzip.decompress(data)
    return PageSource(name.rpartition(".")[0], data.decode("utf-8", errors="replace"))
