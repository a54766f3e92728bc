"""The commands that carry a memory elsewhere: ``export``, ``import`` and ``backup``."""

import json
import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner
from store_cases import ROOT
from transfer_cases import lines_of

from omnimemory.cli import cli
from omnimemory.memory import Memory


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current directory with a store of three notes in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMNIMEMORY_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("OMNIMEMORY_CACHE_PATH", str(tmp_path / "cache"))
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "no")  # so few rows are searched exactly, and Chroma takes seconds
    with Memory() as memory:
        memory.add(["one note", "another note", "the third"])
    return tmp_path


def run(*arguments, code=0, text=None):
    done = CliRunner().invoke(cli, arguments, input=text, prog_name="omnimemory")
    assert done.exit_code == code, done.output
    return done


def test_a_file_goes_out_and_comes_in_again(folder):
    report = json.loads(run("export", "memory.jsonl", "--vectors").stdout)
    assert (report["chunks"], report["vectors"]) == (3, 3)
    assert report["path"] == str(folder / "memory.jsonl")
    report = json.loads(run("--store", "other", "import", "memory.jsonl").stdout)
    assert (report["added"], report["reused"]) == (3, 3)
    assert json.loads(run("--store", "other", "import", "memory.jsonl").stdout)["unchanged"] == 3


def test_standard_output_gets_the_export_and_nothing_else(folder):
    done = run("export", "-")
    assert len(lines_of(done.stdout_bytes)) == 6
    assert "3 chunks" in done.stderr
    report = json.loads(run("--store", "other", "import", "-", text=done.stdout_bytes).stdout)
    assert report["added"] == 3
    assert run("--store", "other", "export", "-").stdout_bytes == done.stdout_bytes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("export", "taken"), "exists already", id="an export over a file"),
        pytest.param(("export", "nowhere/memory.jsonl"), "cannot be used", id="an export into no folder"),
        pytest.param(("import", "taken"), "line 1: this is not an export", id="an import of something else"),
        pytest.param(("import", "missing"), "cannot be read", id="an import of nothing"),
        pytest.param(("backup", "taken"), "is no folder", id="a backup over a file"),
        pytest.param(("backup", "store"), "inside of the store", id="a backup over the store"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_1(folder, arguments, message):
    (folder / "taken").write_text("mine\n")
    done = run(*arguments, code=1)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (folder / "taken").read_text() == "mine\n"


def test_a_file_is_overwritten_on_request(folder):
    (folder / "taken").write_text("mine\n")
    run("export", "taken", "--overwrite")
    assert len(lines_of((folder / "taken").read_bytes())) == 6


def test_a_backup_is_used_as_a_store(folder):
    report = json.loads(run("backup", "copy").stdout)
    assert (report["chunks"], report["path"]) == (3, str(folder / "copy"))
    hit = json.loads(run("--store", "copy", "search", "the third", "-k", "1").stdout)
    assert hit["text"] == "the third"
    assert "not empty" in run("backup", "copy", code=1).stderr


def test_an_import_that_left_something_out_says_what(folder):
    run("export", "memory.jsonl")
    exported = (folder / "memory.jsonl").read_bytes()
    with Memory(folder / "third") as memory:
        memory.add("another text under the same id", ids=[lines_of(exported)[2]["chunk"]])
    report = json.loads(run("--store", "third", "import", "memory.jsonl").stdout)
    assert (report["added"], report["skipped"], report["failed"]) == (2, 1, 0)
    assert "were kept" in report["failures"][0]["reason"]


def test_a_reader_that_goes_away_ends_the_export_quietly(folder):
    with Memory() as memory:
        memory.add([f"note number {number} " + "with many words " * 100 for number in range(100)])
    child = subprocess.Popen(
        [sys.executable, "-m", "omnimemory", "export", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with child:
        assert child.stdout.read(1) == b"{"
        child.stdout.close()
        assert child.wait(60) == 128 + signal.SIGPIPE
        assert child.stderr.read() == b""


def test_a_search_imports_nothing_of_this(folder):
    script = "import sys\nfrom omnimemory import Memory\nwith Memory() as m:\n    m.search('note')\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "omnimemory.search" in done.stdout
    assert "omnimemory.transfer" not in done.stdout
