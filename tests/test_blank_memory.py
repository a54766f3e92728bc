"""What a process had in memory does not reach the disk by way of the index."""

import ctypes
import os

import numpy as np
import pytest
from store_cases import unit_vectors

from omnimemory.storage.blank_memory import BlankMemory
from omnimemory.storage.catalog import Collection
from omnimemory.storage.index import ChromaIndex
from omnimemory.storage.items import Payload

M_PERTURB, MARK = -6, 0x5A
LEFT = bytes([MARK ^ 0xFF]) * 64


@pytest.fixture
def used_memory():
    """Let memory that is handed out look as if it had been used: every byte of it is a mark."""
    if "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""):
        pytest.skip("only glibc can blank what it hands out")
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_PERTURB, MARK)
    yield
    mallopt(M_PERTURB, 0)


def write_index(folder, rows):
    index = ChromaIndex(folder)
    collection = Collection(1, "documents", 16, "random-16", "random")
    names = [f"row{number}" for number in range(rows)]
    index.add(collection, Payload(list(range(rows)), names, names, [{"n": 1}] * rows, unit_vectors(rows), rows))
    index.query(collection, unit_vectors(1)[0], 1)
    index.close()
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("rows", [3, 250])
def test_a_graph_with_room_for_more_rows_is_written_blank_there(tmp_path, used_memory, rows):
    files = write_index(tmp_path / "index", rows)
    assert len(files["data_level0.bin"]) > 10_000  # room for a hundred
    assert [name for name, content in files.items() if LEFT in content] == []


def test_memory_is_blank_while_anybody_asks_for_it_and_as_before_afterwards(used_memory):
    size = 300_000
    allocate = ctypes.CDLL(None).malloc
    allocate.restype = ctypes.c_void_p

    def handed_out():
        return np.unique(np.frombuffer(ctypes.string_at(allocate(size), size), dtype=np.uint8)).tolist()

    assert handed_out() == [MARK ^ 0xFF]
    with BlankMemory(), BlankMemory():
        assert handed_out() == [0]
    with BlankMemory():
        with BlankMemory():
            pass
        assert handed_out() == [0]
