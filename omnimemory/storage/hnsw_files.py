"""Whether the graphs that Chroma has on disk can be walked without leaving their arrays.

hnswlib follows the links of a graph without looking whether what they point to exists, so one flipped bit can end
the process, at the first search or at the hundredth. The files are its own arrays, written out (hnswalg.h of
chroma-core/hnswlib, persistence version 1): ``header.bin``; ``data_level0.bin``, for each element its links, its
vector and its label; ``link_lists.bin``, for each element the links of the levels above.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["broken_graph"]

_HEADER = struct.Struct("<iQQQQQQiIQQQdQ")
_MOST_LINKS = 1024


@dataclass(frozen=True, slots=True)
class _Header:
    version: int
    first: int
    room: int
    count: int
    element_bytes: int
    label_offset: int
    data_offset: int
    top_level: int
    entry: int
    links: int
    links_0: int
    m: int
    factor: float
    width: int

    def is_plausible(self) -> bool:
        return (
            (self.version, self.first) == (1, 0)
            and self.count <= self.room < 2**40
            and 1 <= self.links == self.m <= _MOST_LINKS
            and self.links_0 == 2 * self.links
            and self.data_offset == 4 + 4 * self.links_0
            and self.data_offset < self.label_offset < 2**20
            and self.label_offset % 4 == 0
            and self.element_bytes == self.label_offset + 8
        )


def broken_graph(directory: Path) -> str | None:
    """Return what is wrong with the first broken graph in the folder of an index; ``None`` if all are whole.

    A collection that Chroma has not written to its files yet is whole: it is in Chroma's log.
    """
    for header in sorted(directory.glob("*/header.bin")):
        complaint = _complaint(header.parent)
        if complaint is not None:
            return f"{header.parent.name}: {complaint}"
    return None


def _complaint(folder: Path) -> str | None:
    try:
        header = _Header(*_HEADER.unpack((folder / "header.bin").read_bytes()))
        if not header.is_plausible():
            return "its header makes no sense"
        if not header.count:
            return None
        if (folder / "length.bin").stat().st_size < 4 * header.count:
            return "its lengths are cut"
        levels = _levels(header, (folder / "link_lists.bin").read_bytes())
        whole = levels is not None and _base_links_fit(header, folder / "data_level0.bin")
    except (OSError, struct.error, ValueError):
        return "its files are missing or cut"
    return None if whole and levels is not None and _entry_fits(header, levels) else "its links lead out of it"


def _base_links_fit(header: _Header, path: Path) -> bool:
    elements = np.memmap(path, dtype=np.uint8, mode="r", shape=(header.count, header.element_bytes))
    lists = elements[:, : header.data_offset].copy().view("<u4")
    return _lists_fit(lists, header.links_0, header.count)


def _lists_fit(lists: NDArray[np.uint32], most: int, count: int) -> bool:
    """Return whether link lists (n, 1 + most), each led by its length in 16 bits, name existing elements only."""
    lengths = lists[:, 0] & np.uint32(0xFFFF)
    used = np.arange(most)[np.newaxis, :] < lengths[:, np.newaxis]
    return bool((lengths <= most).all() and (lists[:, 1:][used] < count).all())


def _levels(header: _Header, data: bytes) -> NDArray[np.int64] | None:
    """Return the level of each element, ``None`` if the lists above the lowest level do not fit."""
    level_bytes = 4 + 4 * header.links
    levels = np.zeros(header.count, dtype=np.int64)
    above: list[tuple[int, int]] = []
    place = 0
    for element in range(header.count):
        (size,) = struct.unpack_from("<I", data, place)
        place += 4
        if size:
            levels[element] = size // level_bytes
            above.append((element, place))
            if size % level_bytes or levels[element] > header.top_level or place + size > len(data):
                return None
            place += size
    for element, start in above:
        lists = np.frombuffer(data, dtype="<u4", count=int(levels[element]) * level_bytes // 4, offset=start)
        if not _upper_lists_fit(header, levels, lists.reshape(-1, level_bytes // 4)):
            return None
    return levels


def _upper_lists_fit(header: _Header, levels: NDArray[np.int64], lists: NDArray[np.uint32]) -> bool:
    if not _lists_fit(lists, header.links, header.count):
        return False
    # A link on a level leads to an element that is on that level as well: others have no list there.
    return all(
        bool((levels[links[1 : 1 + int(links[0] & 0xFFFF)]] >= level).all()) for level, links in enumerate(lists, 1)
    )


def _entry_fits(header: _Header, levels: NDArray[np.int64]) -> bool:
    return header.entry < header.count and int(levels[header.entry]) == header.top_level
