from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from omnimemory.errors import SourceError
from omnimemory.sources.history import HistoryRead, read_history
from omnimemory.sources.history.reading import read_all


def read(path: Path, **options) -> HistoryRead:
    return read_history(path, key=b"k", **options)


def commands(result: HistoryRead) -> list[str]:
    return [entry.event.command for entry in result.entries]


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.fixture
def history(tmp_path) -> Path:
    return write(tmp_path / "history", "a\nb\nc\n")


def test_bytes_that_arrive_while_the_file_is_read_are_read_too_and_looked_at_next_time(history):
    # What the status said first counts for nothing: the cursor goes by the bytes that were read.
    descriptor = os.open(history, os.O_RDONLY)
    try:
        assert read_all(descriptor, history, 2, 100) == b"a\nb\nc\n"
    finally:
        os.close(descriptor)


def test_a_symbolic_link_to_a_history_is_followed(history, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(history)
    assert commands(read(link)) == ["a", "b", "c"]


def make_fifo(path):
    os.mkfifo(path)


def make_loop(path):
    path.symlink_to(path)


def make_sparse(path):
    with path.open("wb") as file:
        file.truncate(1 << 30)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda path: None, "does not exist", id="missing"),
        pytest.param(Path.mkdir, "not a regular file but a directory", id="directory"),
        pytest.param(make_fifo, "a FIFO", id="fifo_does_not_hang"),
        pytest.param(make_loop, "cannot be read", id="symlink_loop"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "a character device", id="device"),
        pytest.param(make_sparse, r"1,073,741,824 bytes.*limit of 268,435,456.*split", id="one_gib_sparse"),
        pytest.param(lambda path: write(path, "SQLite format 3\0 x"), "SQLite.*damaged.*atuin history", id="db"),
        pytest.param(lambda path: path.write_text("ls\n", "utf-16"), "UTF-16.*iconv", id="utf_16_with_mark"),
        pytest.param(lambda path: path.write_text("ls\n", "utf-16-le"), "binary", id="utf_16_without_mark"),
        pytest.param(lambda path: path.write_bytes(b"\x7fELF\2\1\1" + b"\0" * 99), "binary", id="binary"),
        pytest.param(lambda path: path.write_bytes(Random(1).randbytes(4096)), "binary.*control", id="compressed"),
    ],
)
def test_what_is_no_history_is_refused_with_its_reason(tmp_path, make, message):
    path = tmp_path / "h"
    make(path)
    with pytest.raises(SourceError, match=f"(?s)h .*{message}"):
        read(path)


def test_a_path_with_a_nul_byte_is_refused():
    with pytest.raises(SourceError, match="cannot be read"):
        read(Path("a\0b"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused_with_the_fix(history):
    history.chmod(0)
    with pytest.raises(SourceError, match="may not be read by this user"):
        read(history)


def test_the_size_limit_is_exact(history):
    assert commands(read(history, max_bytes=6)) == ["a", "b", "c"]
    with pytest.raises(SourceError, match="limit of 5"):
        read(history, max_bytes=5)


def test_a_few_nul_bytes_of_a_power_cut_do_not_make_a_history_binary(tmp_path):
    path = tmp_path / "h"
    path.write_bytes(b"git status\n" * 20 + b"\0" * 40 + b"ls\n")
    assert commands(read(path))[-1] == "ls"


@pytest.mark.parametrize("damage", [b"\x01\x02" * 40, b"\x1b[31m\t" * 200, b"\xff\xfe\x80" * 200])
def test_damage_colours_and_other_encodings_do_not_make_a_history_binary(tmp_path, damage):
    path = tmp_path / "h"
    path.write_bytes(b"git status\n" * 200 + damage + b"\nls\n")
    assert commands(read(path))[-1] == "ls"


def test_no_descriptor_stays_open(history, tmp_path):
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("needs /proc")
    before = len(list(folder.iterdir()))
    read(history)
    with pytest.raises(SourceError):
        read(tmp_path)
    assert len(list(folder.iterdir())) <= before  # what earlier tests left may be collected meanwhile
