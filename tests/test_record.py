"""Single events, from agents and tools; and one command that came by two ways."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from omnimemory import Memory
from omnimemory.cli import cli
from omnimemory.errors import ConfigError
from tests.database_cases import make
from tests.spool_cases import NOW


def count(memory, command: str) -> int:
    hits = memory.search(command, kind="commands", mode="keyword", where={"count": {"$gte": 0}})
    return next((hit.metadata["count"] for hit in hits if hit.text == command), 0)


def test_what_was_recorded_is_found_with_all_that_was_said(memory):
    given = {"cwd": "/api", "exit_code": 2, "duration": 1.5, "session": "a7", "host": "ci", "shell": "agent"}
    public = memory.record("make test", **given, timestamp=NOW)
    (hit,) = memory.search("make test", kind="commands")
    assert hit.id == public
    assert hit.metadata == {**given, "count": 1, "first": NOW, "last": NOW}
    assert hit.source == "recorded"


def test_it_is_learnt_from_and_failures_are_not_suggested(memory):
    for at in range(4):
        for step, (command, code) in enumerate([("cd api", 0), ("gti status", 127), ("git status", 0)]):
            memory.record(command, code, timestamp=NOW + 100 * at + step, session="a", shell="fish")
    found = [one.command for one in memory.next_command(["cd api"])]
    assert "git status" in found
    assert "gti status" not in found


def test_the_same_command_at_the_same_time_is_one_event(memory):
    for _ in range(3):
        memory.record("ls", timestamp=NOW)
    memory.record("ls", timestamp=NOW + 1)
    assert count(memory, "ls") == 2


@pytest.mark.parametrize("command", [" echo private", "omnimemory forget --pattern x"])
def test_what_is_not_to_be_kept_is_left_out(memory, command):
    assert memory.record(command) is None
    assert memory.status()["store"]["commands"]["events"] == 0


@pytest.mark.parametrize("command", ["", "  ", None, 5])
def test_no_command_is_refused(memory, command):
    with pytest.raises(ConfigError, match=r"record\('make test'"):
        memory.record(command)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"exit_code": "1"}, "exit_code as a whole number"),
        ({"exit_code": 2**70}, "exit_code as a whole number"),
        ({"exit_code": True}, "exit_code as a whole number"),
        ({"duration": -1}, "duration in seconds"),
        ({"duration": float("inf")}, "duration in seconds"),
        ({"timestamp": float("nan")}, "timestamp in seconds"),
        ({"timestamp": 1e20}, "timestamp in seconds"),
        ({"timestamp": "2024-05-31"}, "timestamp in seconds"),
        ({"cwd": 3}, "cwd as a text"),
        ({"session": 7}, "session as a text"),
        ({"host": b"x"}, "host as a text"),
        ({"shell": ["zsh"]}, "shell as a text"),
    ],
)
def test_what_no_event_can_have_is_refused_and_nothing_is_stored(memory, said, message):
    with pytest.raises(ConfigError, match=message):
        memory.record("make test", **said)
    assert memory.status()["store"]["commands"]["events"] == 0


def test_what_a_database_cannot_hold_is_replaced_and_the_store_stays_whole(settings):
    odd = "a\udcff\0b"
    with Memory(settings=settings) as memory:
        memory.record(odd, 0, odd, session=odd, host=odd, shell=odd)
        memory.record("ls", 2**32 - 1, "", timestamp=0, duration=10**9, session="")
    with Memory(settings=settings) as memory:
        (hit,) = memory.search("a?b", kind="commands", mode="keyword")
        assert {hit.metadata[name] for name in ("cwd", "session", "host", "shell")} == {"a?b"}
        assert memory.next_command(["ls"])


@pytest.mark.parametrize(
    ("more", "expected"),
    [([], "link"), (["--cwd", "sub"], "link/sub"), (["--cwd", ".."], "."), (["--cwd", "/x"], "/x")],
)
def test_a_folder_is_the_one_that_the_shell_names(memory, tmp_path, monkeypatch, more, expected):
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path / "link")
    monkeypatch.setenv("PWD", str(tmp_path / "link"))
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "false")
    monkeypatch.setenv("OMNIMEMORY_CACHE_PATH", str(memory.settings.cache.path))
    store = ["--store", str(memory.settings.store.path)]
    for verb in (["record", "ls"], ["next"], ["sessions"]):
        done = CliRunner().invoke(cli, [*store, *verb, *more])
        assert done.exit_code == 0, done.output
    (hit,) = memory.search("ls", kind="commands")
    assert hit.metadata["cwd"] == str(tmp_path / expected)
    monkeypatch.setenv("PWD", str(tmp_path))  # left by a parent that is elsewhere
    CliRunner().invoke(cli, [*store, "record", "pwd"])
    (hit,) = memory.search("pwd", kind="commands", k=1)
    assert hit.metadata["cwd"] == str(tmp_path / "real")


def test_secrets_are_taken_out(memory):
    memory.record("curl -H 'Authorization: Bearer " + "ab12" * 8 + "' https://x.org")
    (hit,) = memory.search("curl", kind="commands")
    assert "[REDACTED:" in hit.text
    assert "ab12ab12" not in hit.text


def test_the_command_records(monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "false")
    done = CliRunner().invoke(cli, ["record", "make test", "--exit-code", "1", "--cwd", "/api", "--session", "a"])
    public = json.loads(done.stdout)["id"]
    (hit,) = [json.loads(line) for line in CliRunner().invoke(cli, ["search", "make"]).stdout.splitlines()]
    assert (hit["id"], hit["metadata"]["exit_code"], hit["metadata"]["cwd"]) == (public, 1, "/api")
    assert "left out" in CliRunner().invoke(cli, ["record", " x"]).stderr
    assert CliRunner().invoke(cli, ["record", " "]).exit_code == 2
    told = CliRunner().invoke(cli, ["search", "make", "--null"]).stdout_bytes
    assert told == b"make test\0"


def test_a_history_tells_a_recorded_command_no_second_time(memory, tmp_path):
    for at, command in enumerate(["ls", "make", "ls"]):
        memory.record(command, 0, timestamp=NOW + at)
    path = tmp_path / ".zsh_history"
    begun = int(NOW)
    path.write_text(f": {begun}:0;ls\n: {begun + 1}:0;make\n: {begun + 2}:0;ls\n: {begun + 9}:0;ls\n")
    assert memory.ingest_history(path).events == 1  # the last one: nobody recorded it
    assert (count(memory, "ls"), count(memory, "make")) == (3, 1)
    path.write_text(path.read_text()[4:])  # the shell wrote it anew
    memory.ingest_history(path, shell="zsh")
    assert (count(memory, "ls"), count(memory, "make")) == (3, 1)


def test_a_finer_history_takes_the_place_of_a_coarser_one(memory, tmp_path):
    (tmp_path / ".zsh_history").write_text(": 1700000000:0;ls\n: 1700000000:0;ls\n: 1700000005:0;pwd\n")
    memory.ingest_history(tmp_path / ".zsh_history")
    row = {"id": "1", "duration": 1, "exit": 3, "cwd": "/api", "session": "s", "hostname": "h", "command": "ls"}
    make(tmp_path / "history.db", "atuin", [{**row, "timestamp": 1_700_000_000_400_000_000}])
    assert memory.ingest_history(tmp_path / "history.db").events == 0  # one came, and one went for it
    assert (count(memory, "ls"), count(memory, "pwd")) == (2, 1)
    assert memory.search("ls", kind="commands", where={"exit_code": 3})[0].text == "ls"
