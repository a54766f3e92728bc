"""``forget`` and ``scrub`` on the command line: nothing goes unasked, and what is told is true."""

import json
import os
import pty
import subprocess
import sys

import pytest
from click.testing import CliRunner
from forget_cases import stamped
from store_cases import ROOT, finish, start
from test_forget_bytes import HOLD

from omnimemory.cli import cli
from omnimemory.forgetting import purge
from omnimemory.memory import Memory

TOKEN = "ghp_" + "a1B2" * 9


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two notes and a history in its store; it is the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMNIMEMORY_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("OMNIMEMORY_CACHE_PATH", str(tmp_path / "cache"))
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "no")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "history").write_text(stamped("make pool", "ls", f"login {TOKEN}"))
    with Memory() as memory:
        memory.add(["call the pool", "water the plants"], ids=["pool", "plants"])
        memory.ingest_history("history", shell="bash", keep_secrets=True)
    return tmp_path


def run(*arguments, code=0, text=None):
    done = CliRunner().invoke(cli, arguments, input=text, prog_name="omnimemory")
    assert done.exit_code == code, done.output
    return done


def stored():
    with Memory() as memory:
        return {
            text for (text,) in memory.store.catalog.rows("SELECT text FROM chunks UNION SELECT text FROM commands")
        }


ALL = {"call the pool", "water the plants", "make pool", "ls", f"login {TOKEN}"}


def test_nothing_is_forgotten_or_scrubbed_without_a_yes_where_nobody_can_be_asked(folder):
    for command in (["forget", "--pattern", "pool"], ["scrub"]):
        done = run(*command, code=2)
        assert "--yes" in done.stderr
        assert "--dry-run" in done.stderr
    assert stored() == ALL


def test_a_dry_run_names_what_would_go_and_a_yes_forgets_it(folder):
    told = json.loads(run("forget", "--pattern", "pool", "--dry-run").stdout)
    assert {item["text"] for item in told["items"]} == {"call the pool", "make pool"}
    assert (told["dry_run"], told["chunks"], told["commands"], told["events"]) == (True, 1, 1, 1)
    assert stored() == ALL
    done = run("forget", "--pattern", "pool", "--yes")
    report = json.loads(done.stdout)
    assert (report["chunks"], report["commands"], report["events"], report["items"]) == (1, 1, 1, [])
    assert f"your own files may still hold it: {folder / 'history'}" in done.stderr
    assert stored() == ALL - {"call the pool", "make pool"}


def test_every_option_reaches_the_memory(folder):
    run("forget", "--id", "plants", "--id", "nobody", "-y")
    assert stored() == ALL - {"water the plants"}
    run("forget", "--after", "2023-11-14T00:00", "--before", "1699999999", code=2)
    assert json.loads(run("forget", "--source", "history", "--kind", "documents", "-y").stdout)["chunks"] == 0
    assert json.loads(run("forget", "--cwd", "/nowhere", "--after", "2020-01-01", "-y").stdout)["events"] == 0
    assert (
        json.loads(run("forget", "call", "the", "pool", "-k", "1", "--kind", "documents", "-y").stdout)["chunks"] == 1
    )
    assert "how many to forget" in run("forget", "pool", "-y", code=2).stderr
    assert "Say what to forget" in run("forget", "-y", code=2).stderr
    assert json.loads(run("forget", "--source", "history", "--yes").stdout)["sources"] == 1
    assert stored() == set()


def test_a_pattern_can_come_from_standard_input_so_that_no_shell_keeps_it(folder):
    run("forget", "--pattern", "-", "--yes", text="call the pool\n")
    assert stored() == ALL - {"call the pool"}


def test_what_was_forgotten_comes_back_only_when_asked_for(folder):
    run("forget", "--pattern", "make", "--yes")
    (folder / "history").write_text(stamped("cd", "make pool", "ls", first=1_699_999_940))
    assert "were forgotten and are left out" in run("ingest-history", "history", "--shell", "bash").output
    assert "make pool" not in stored()
    run("ingest-history", "history", "--shell", "bash", "--restore")
    assert "make pool" in stored()
    (folder / "a.md").write_text("The knot.")
    run("ingest", "a.md")
    run("forget", "--source", "a.md", "--yes")
    assert json.loads(run("ingest", "a.md").stdout)["added"] == 0
    assert json.loads(run("ingest", "a.md", "--restore").stdout)["added"] == 1


def test_an_index_in_use_exits_with_75_and_finish_ends_it(folder, monkeypatch):
    monkeypatch.setattr(purge, "WAIT_SECONDS", 0.1)
    (folder / "store" / "index" / "1").mkdir(parents=True)
    child = start(HOLD, folder)
    assert child.stdout.readline() == "True\n"
    done = run("forget", "--pattern", "pool", "--yes", code=75)
    assert f"the index is in use by process {child.pid}" in done.stderr
    assert "omnimemory forget --finish" in done.stderr
    assert json.loads(done.stdout)["unpurged"][0]["place"] == "index"
    finish(child, "\n")
    assert json.loads(run("forget", "--finish").stdout)["unpurged"] == []


def test_scrub_says_what_it_replaced(folder):
    told = json.loads(run("scrub", "--dry-run").stdout)
    assert (told["commands"], told["dry_run"]) == (1, True)
    assert f"login {TOKEN}" in stored()
    report = json.loads(run("scrub", "--yes").stdout)
    assert (report["commands"], report["redactions"]) == (1, told["redactions"])
    assert not any(TOKEN in text for text in stored())


def terminal(*arguments, answer):
    """Run a command on a pseudo-terminal where somebody answers; return what was shown."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "omnimemory", *arguments]
    child = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env={**os.environ, "TERM": "dumb"})
    os.close(its)
    os.write(ours, answer)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # what Linux says when the other end is closed
            part = b""
        if not part:
            break
        shown += part
    os.close(ours)
    return child.wait(60), shown.decode()


def test_on_a_terminal_it_is_shown_and_asked_for(folder):
    code, shown = terminal("forget", "--pattern", "pool", answer=b"n\n")
    assert (code, stored()) == (0, ALL)
    assert all(
        text in shown for text in ("call the pool", "make pool", "1 chunk, 1 command, 1 event", "Nothing was changed")
    )
    code, shown = terminal("forget", "--pattern", "pool", answer=b"y\n")
    assert "1 chunk, 1 command, 1 event forgotten" in shown
    assert stored() == ALL - {"call the pool", "make pool"}
