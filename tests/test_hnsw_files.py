"""A graph whose links lead out of it is found before hnswlib walks it."""

import struct

import numpy as np
import pytest

from omnimemory.storage.hnsw_files import broken_graph

COUNT, LINKS, DIM = 50, 4, 6
HEADER = struct.Struct("<iQQQQQQiIQQQdQ")
VALUES = {
    "version": 1,
    "first": 0,
    "room": 64,
    "count": COUNT,
    "element_bytes": 4 + 8 * LINKS + 4 * DIM + 8,
    "label_offset": 4 + 8 * LINKS + 4 * DIM,
    "data_offset": 4 + 8 * LINKS,
    "top_level": 2,
    "entry": 7,
    "links": LINKS,
    "links_0": 2 * LINKS,
    "m": LINKS,
    "factor": 0.36,
    "width": 100,
}


def make(folder, **changed):
    """Write a graph as hnswlib does; every tenth element is on level 1, the entry on level 2 as well."""
    folder.mkdir(parents=True)
    (folder / "header.bin").write_bytes(HEADER.pack(*(VALUES | changed).values()))
    rng = np.random.default_rng(0)
    elements = np.zeros((COUNT, VALUES["element_bytes"] // 4), dtype="<u4")
    elements[:, 0] = 2 * LINKS
    elements[:, 1 : 1 + 2 * LINKS] = rng.integers(0, COUNT, (COUNT, 2 * LINKS))
    elements[3, 0] |= 0x10000  # deleted
    (folder / "data_level0.bin").write_bytes(elements.tobytes())
    (folder / "length.bin").write_bytes(np.ones(COUNT, dtype="<f4").tobytes())
    lists = [b""] * COUNT
    for element in range(7, COUNT, 10):
        levels = 2 if element == 7 else 1
        lists[element] = b"".join(struct.pack("<I4I", 2, 7, 17 if level == 0 else 7, 99, 99) for level in range(levels))
    (folder / "link_lists.bin").write_bytes(b"".join(struct.pack("<I", len(part)) + part for part in lists))
    return folder


def word(name, place, value):
    def change(folder):
        data = bytearray((folder / name).read_bytes())
        struct.pack_into("<I", data, place, value)
        (folder / name).write_bytes(data)

    return change


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-40])


UPPER = 4 * 7 + 4  # where the lists of element 7 begin


def test_whole_graphs_and_ones_that_are_not_written_yet_are_whole(tmp_path):
    assert broken_graph(tmp_path) is None
    make(tmp_path / "one")
    make(tmp_path / "two", count=0, entry=2**32 - 1, top_level=-1)
    assert broken_graph(tmp_path) is None


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(word("data_level0.bin", 4, COUNT), id="a link to an element that is not there"),
        pytest.param(word("data_level0.bin", 0, 2 * LINKS + 1), id="more links than there are places"),
        pytest.param(word("link_lists.bin", UPPER + 4, COUNT + 1), id="an upper link to nowhere"),
        pytest.param(word("link_lists.bin", UPPER + 4, 8), id="an upper link to an element that is not up there"),
        pytest.param(word("link_lists.bin", UPPER, LINKS + 1), id="more upper links than there are places"),
        pytest.param(word("link_lists.bin", 0, 21), id="half a list"),
        pytest.param(word("link_lists.bin", 0, 400), id="a level above the top"),
        pytest.param(cut("data_level0.bin"), id="elements cut"),
        pytest.param(cut("link_lists.bin"), id="lists cut"),
        pytest.param(cut("length.bin"), id="lengths cut"),
        pytest.param(cut("header.bin"), id="header cut"),
        pytest.param(lambda folder: (folder / "length.bin").unlink(), id="lengths gone"),
        pytest.param(word("header.bin", 0, 2), id="another version"),
    ],
)
def test_what_would_be_walked_out_of_is_found(tmp_path, damage):
    folder = make(tmp_path / "segment")
    damage(folder)
    assert broken_graph(tmp_path).startswith("segment: ")


@pytest.mark.parametrize(
    "changed",
    [
        {"count": COUNT + 1},
        {"count": 2**50},
        {"entry": COUNT},
        {"entry": 8},
        {"top_level": 1},
        {"links": 5},
        {"links_0": 2**33},
        {"element_bytes": 75},
        {"label_offset": 2**40, "element_bytes": 2**40 + 8},
    ],
    ids=str,
)
def test_a_header_that_makes_no_sense_is_found(tmp_path, changed):
    make(tmp_path / "segment", **changed)
    assert broken_graph(tmp_path) is not None
