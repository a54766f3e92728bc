"""Bad input: each is reported or skipped with its reason, the run goes on, nothing hangs, nothing is lost."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from omnimemory.errors import SourceError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def mess(tmp_path):
    """Return a folder of everything that files should not be."""
    root = tmp_path / "mess"
    root.mkdir()
    (root / "good.md").write_text("The one good file speaks of lighthouses.")
    (root / "empty.txt").write_bytes(b"")
    (root / "blank.txt").write_bytes(b" \n\t\n")
    with (root / "huge.txt").open("wb") as file:
        file.truncate(1 << 30)
    (root / "binary.txt").write_bytes(bytes(range(256)) * 64)
    (root / "latin1.txt").write_bytes("Die Schlüssel hängen in der Küche, sagte Jürgen müde.".encode("latin-1") * 5)
    (root / "broken-utf8.txt").write_bytes(b"lanterns \xff\xfe\x80 shine \xc3\x28 here " * 3)
    (root / "utf16.txt").write_text("A text about harbours in another encoding.", encoding="utf-16")
    (root / "utf16-bare.txt").write_bytes("A text about cranes without a mark.".encode("utf-16-le") * 4)
    (root / "bom.txt").write_text("A text about anchors with a mark.", encoding="utf-8-sig")
    (root / "surrogate.ipynb").write_text('{"cells": [{"cell_type": "markdown", "source": "buoys \\ud800 float"}]}')
    (root / "broken.ipynb").write_text('{"cells": [')
    (root / "nul.txt").write_bytes(b"before\x00after" * 10)
    (root / "directory.txt").mkdir()
    (root / "directory.txt" / "inside.md").write_text("Inside a folder with a file's name: ropes.")
    os.mkfifo(root / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "socket.txt"))
    (root / "loop").symlink_to(root)
    (root / "dangling.txt").symlink_to(root / "nowhere")
    (root / "outside.txt").symlink_to("/etc/hostname")
    (root / "line\nbreak \x1b[31m.md").write_text("A name with signs in it: sails.")
    (root / os.fsdecode(b"bad-\xff-name.md")).write_text("A name that is no text: tides.")
    deep = root
    for _ in range(70):
        deep = deep / "d"
        deep.mkdir()
    (deep / "bottom.md").write_text("Too deep.")
    return root


def test_a_folder_full_of_bad_files_is_read_as_far_as_it_can_be(memory, mess):
    report = memory.ingest(mess)
    told = {Path(failure.source).name: failure for failure in report.failures}
    for name in ("empty.txt", "blank.txt", "huge.txt", "binary.txt", "nul.txt", "pipe.txt", "socket.txt"):
        assert name in told, name
        assert not told[name].error, told[name]
        assert told[name].reason
    assert told["broken.ipynb"].error
    assert report.failed == sum(failure.error for failure in report.failures) >= 1
    for question, name in {
        "lighthouses": "good.md",
        "Schlüssel Küche": "latin1.txt",
        "lanterns": "broken-utf8.txt",
        "harbours": "utf16.txt",
        "cranes": "utf16-bare.txt",
        "anchors": "bom.txt",
        "buoys": "surrogate.ipynb",
        "ropes": "inside.md",
        "sails": "line\nbreak \x1b[31m.md",
        "tides": None,
    }.items():
        hits = memory.search(question, mode="keyword")
        assert hits, question
        if name:
            assert hits[0].source.endswith(name), (question, hits[0].source)
    assert not memory.search("Too deep", mode="keyword")
    assert any("deep" in failure.reason for failure in report.failures)


def test_the_second_time_nothing_changes(memory, mess):
    memory.ingest(mess)
    again = memory.ingest(mess)
    assert (again.added, again.deleted, again.embedded) == (0, 0, 0)


def test_a_path_that_does_not_exist_is_told_and_the_rest_is_read(memory, tmp_path):
    (tmp_path / "good.md").write_text("lighthouses")
    report = memory.ingest(tmp_path / "nowhere", tmp_path / "good.md")
    assert (report.failed, report.added) == (1, 1)


def test_an_unreadable_file_is_told_and_the_rest_is_read(memory, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "secret.md").write_text("x")
    (tmp_path / "docs" / "secret.md").chmod(0)
    (tmp_path / "docs" / "good.md").write_text("lighthouses")
    report = memory.ingest(tmp_path / "docs")
    assert (report.failed, report.added) == (1, 1)
    assert "permission" in report.failures[0].reason.lower()


def test_the_command_line_ends_with_1_and_names_what_failed(settings, mess):
    done = subprocess.run(
        [sys.executable, "-m", "omnimemory", "--store", str(settings.store.path), "ingest", "--json", str(mess)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=ROOT,
        env={**os.environ, "OMNIMEMORY_INDEX_ENABLED": "false", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "broken.ipynb" in done.stdout + done.stderr
    assert "\x1b[31m" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n\n",
        b"\x80\xff\n" * 100,
        b"a\x00b\nls\n",
        b"#99999999999999999999\nls\n",
        b": 17:0;\\\n",
        b"- cmd: \n  when: x\n",
    ],
    ids=["empty", "blank", "no-text", "nul", "absurd-time", "open-continuation", "fish-garbage"],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_strange_history_never_ends_a_run_badly(memory, tmp_path, shell, content):
    path = tmp_path / "history"
    path.write_bytes(content)
    first = memory.ingest_history(path, shell=shell)
    second = memory.ingest_history(path, shell=shell)
    assert first.failed == second.failed == 0
    assert second.events == 0


def test_a_history_that_is_no_text_is_an_error_that_says_so(memory, tmp_path):
    for content, says in ((b"\xff\xfel\x00s\x00", "UTF-16"), (b"SQLite format 3\x00" + bytes(100), "SQLite")):
        (tmp_path / "history").write_bytes(content)
        with pytest.raises(SourceError, match=says):
            memory.ingest_history(tmp_path / "history")
    with pytest.raises(SourceError, match="nowhere"):
        memory.ingest_history(tmp_path / "nowhere")


def test_a_command_of_a_megabyte_and_a_text_of_a_megabyte(memory, tmp_path):
    path = tmp_path / "history"
    path.write_text("echo " + "x" * 1_000_000 + "\nls -la\n")
    report = memory.ingest_history(path, shell="bash")
    assert report.events == 1
    assert any("longer" in failure.reason for failure in report.failures)
    memory.add("word " * 200_000)
    assert len(memory.search("word", mode="vector")[0].text) >= 999_999
