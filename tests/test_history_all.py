"""Every history on the machine, and histories that are piped in."""

from __future__ import annotations

import io
import json

import pytest
from click.testing import CliRunner

from omnimemory.cli import cli
from omnimemory.errors import ConfigError, SourceError
from tests.database_cases import make


@pytest.fixture
def histories(own_home):
    (own_home / ".bash_history").write_text("ls\nmake\n")
    (own_home / ".zsh_history").write_bytes(b"\0" * 5000)
    row = {"id": "1", "timestamp": 1, "duration": 1, "exit": 0, "cwd": "/", "session": "s", "hostname": "h"}
    make(own_home / ".local/share/atuin/history.db", "atuin", [{**row, "command": "cargo test"}])
    return own_home


def test_all_histories_are_read_and_a_bad_one_keeps_no_other_out(memory, histories):
    report = memory.ingest_history(every=True)
    assert [(one.shell, one.events) for one in report.histories] == [("atuin", 1), ("bash", 2), ("zsh", 0)]
    assert report.histories[1].source == str(histories / ".bash_history")
    (failure,) = report.failures
    assert "full of NUL bytes" in failure.reason
    assert memory.ingest_history(every=True).events == 0
    assert {hit.text for hit in memory.search("make test", kind="commands")} == {"ls", "make", "cargo test"}


def test_all_and_one_contradict_each_other(memory, histories):
    with pytest.raises(ConfigError, match="no target"):
        memory.ingest_history("bash", every=True)


def test_the_command_says_what_it_found(histories, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "false")
    done = CliRunner().invoke(cli, ["ingest-history", "--all"])
    assert done.exit_code == 1  # one of them is no history
    assert f"found bash: {histories}/.bash_history (2 new events)" in done.stderr
    report = json.loads(done.stdout)
    assert [one["shell"] for one in report["histories"]] == ["atuin", "bash", "zsh"]
    assert CliRunner().invoke(cli, ["ingest-history", "--all", "x"]).exit_code == 2
    assert CliRunner().invoke(cli, ["ingest-history", "--name", "x"]).exit_code == 2


def test_a_history_that_is_piped_in_is_remembered_by_its_name(memory):
    pipe = b"ls\nmake\n"
    assert memory.ingest_history(io.BytesIO(pipe), shell="bash", name="server").events == 2
    assert memory.ingest_history(io.BytesIO(pipe + b"ls\n"), shell="bash", name="server").events == 1
    assert memory.ingest_history(io.BytesIO(pipe), shell="bash", name="laptop").events == 2
    (hit,) = memory.search("make", kind="commands", k=1)
    assert hit.metadata["count"] == 2
    memory.forget(source="stdin:server", confirm=lambda _: True)
    assert {hit.source for hit in memory.search("make", kind="commands")} == {"stdin:laptop"}


@pytest.mark.parametrize(
    ("data", "shell", "message"),
    [
        (b"SQLite format 3\0" + b"x" * 99, None, "piped in. Give its file"),
        (b"ls\n", "atuin", "is a database and cannot be piped in"),
        (b"\0" * 999, None, "full of NUL bytes"),
    ],
    ids=["database", "shell", "binary"],
)
def test_what_cannot_be_piped_in_is_refused(memory, data, shell, message):
    with pytest.raises(SourceError, match=message):
        memory.ingest_history(io.BytesIO(data), shell=shell)


def test_the_command_reads_standard_input(monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "false")
    arguments = ["ingest-history", "-", "--shell", "fish", "--name", "old"]
    done = CliRunner().invoke(cli, arguments, input=b"- cmd: ls\n  when: 5\n")
    assert (done.exit_code, json.loads(done.stdout)["events"]) == (0, 1)
