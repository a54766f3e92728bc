"""``ingest-history --watch``: a real child process follows files that really grow, and ends when it is told to."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from spool_cases import write
from store_cases import ROOT, wait_until

from omnimemory import Memory
from omnimemory.cli import cli
from omnimemory.errors import ConfigError, SourceError
from omnimemory.sources.spool_folder import spool_folder


class Watching:
    """``ingest-history --watch`` in a process of its own; ``reports`` are the lines it printed so far."""

    def __init__(self, place: Path, *words: object) -> None:
        environment = {
            **os.environ,
            "HOME": str(place),
            "PYTHONPATH": str(ROOT),
            "OMNIMEMORY_STORE": str(place / "store"),
            "OMNIMEMORY_CACHE_PATH": str(place / "cache"),
            "OMNIMEMORY_INDEX_ENABLED": "false",
        }
        self.child = subprocess.Popen(
            [sys.executable, "-m", "omnimemory", "ingest-history", "--watch", "--interval", "0.1", *map(str, words)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.reports: list[dict] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        self.reports.extend(json.loads(line) for line in self.child.stdout)

    def wait(self, condition) -> None:
        assert wait_until(lambda: condition() or self.child.poll() is not None)
        assert self.child.poll() is None, self.child.stderr.read()

    def has_told(self) -> bool:
        return bool(self.reports)

    def events(self) -> int:
        return sum(report["events"] for report in self.reports)

    def end(self, number: int) -> tuple[int, str]:
        self.child.send_signal(number)
        code = self.child.wait(60)
        self.reader.join(60)
        return code, self.child.stderr.read()


@pytest.fixture
def watching(tmp_path):
    started = []

    def start(*words: object) -> Watching:
        started.append(Watching(tmp_path, *words))
        return started[-1]

    yield start
    for one in started:
        one.child.kill()
        one.reader.join(60)
        one.child.communicate()


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def stored(place: Path) -> list[str]:
    with Memory(place / "store") as memory:
        rows = memory.store.catalog.rows(
            "SELECT c.text FROM events e JOIN commands c ON c.id = e.command_row ORDER BY e.timestamp"
        )
    return [text for (text,) in rows]


def test_a_history_and_the_spool_are_followed_until_ctrl_c(watching, tmp_path, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "false")
    history = tmp_path / "history.zsh"
    append(history, ": 1700000000:0;make\n: 1700000010:0;make test\n")
    watch = watching(history)
    watch.wait(lambda: watch.events() == 2)
    for number, line in enumerate((": 1700000020:0;git push\n", ": 1700000030:0;make docs\n"), 3):
        append(history, line)
        watch.wait(lambda number=number: watch.events() == number)
    write(spool_folder(tmp_path / "store"), "zsh.1.spool", "htop", start=1_700_000_100.5)
    watch.wait(lambda: watch.events() == 5)
    shrunk = tmp_path / "new"
    shrunk.write_text(": 1700000020:0;git push\n: 1700000200:0;ls -l\n")
    shrunk.replace(history)
    watch.wait(lambda: watch.events() == 6)
    code, told = watch.end(signal.SIGINT)
    assert code == 0, told
    assert told.splitlines()[-1].endswith(": 6 events, 6 new commands")
    assert [report["events"] for report in watch.reports] == [2, 1, 1, 1, 1]
    assert stored(tmp_path) == ["make", "make test", "git push", "make docs", "htop", "ls -l"]


def test_all_histories_are_followed_also_one_that_begins_later(watching, tmp_path, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "false")
    append(tmp_path / ".bash_history", "make\n")
    watch = watching("--all")
    watch.wait(lambda: watch.events() == 1)
    append(tmp_path / ".zsh_history", ": 1700000020:0;git pu")
    watch.wait(lambda: watch.events() == 2)
    append(tmp_path / ".zsh_history", "sh\n")  # what was half written becomes the whole command, not one more
    watch.wait(lambda: len(watch.reports) == 3)
    code, told = watch.end(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert ": 2 events, 3 new commands" in told
    assert sorted(stored(tmp_path)) == ["git push", "make"]


@pytest.mark.parametrize("pause", [0.0, 3600.0], ids=["after a while", "when it is there again"])
def test_a_history_that_cannot_be_read_is_told_once_and_tried_again(settings, tmp_path, monkeypatch, pause):
    monkeypatch.setattr("omnimemory.ingest.following._SECONDS_AFTER_FAILURE", pause)
    history, aside = tmp_path / "history", tmp_path / "aside"
    append(history, "make\n")
    with Memory(settings=settings) as memory:
        reports = memory.watch_history(history, shell="bash", seconds=0.01)
        assert next(reports).events == 1
        history.rename(aside)
        report = next(reports)
        assert (report.failed, report.events) == (1, 0)
        assert str(history) in report.failures[0].reason
        back = threading.Timer(0.2, lambda: (append(aside, "make test\n"), aside.rename(history)))
        back.start()
        report = next(reports)  # not the same failure again
        back.join()
        assert (report.failed, report.events) == (0, 1)
        history.write_text("")
        append(history, "make docs\n")  # it was emptied: what it held stays, what is added is new
        assert next(reports).events == 1


def test_what_is_bad_keeps_nothing_else_waiting_and_is_told_once(settings, own_home):
    (own_home / ".bash_history").write_text("make\n")
    (own_home / ".zsh_history").write_bytes(b"\0" * 5000)
    spool = spool_folder(settings.store.path)
    spool.mkdir(parents=True)
    os.mkfifo(spool / "a.spool")
    with Memory(settings=settings) as memory:
        reports = memory.watch_history(every=True, seconds=0.01)
        told = [next(reports), next(reports)]
        assert ["not a regular file" in told[0].failures[0].reason, told[0].events] == [True, 0]
        assert ["full of NUL bytes" in told[1].failures[0].reason, told[1].events] == [True, 1]
        append(own_home / ".bash_history", "make test\n")
        report = next(reports)
        assert (report.events, report.failed, report.failures) == (1, 0, ())
        (spool / "a.spool").unlink()
        write(spool, "zsh.1.spool", "htop")
        assert next(reports).events == 1


def test_a_command_that_its_shell_and_its_hook_tell_is_counted_once(settings, tmp_path):
    history = tmp_path / "history.zsh"
    append(history, ": 1700000000:0;make\n")
    with Memory(settings=settings) as memory:
        reports = memory.watch_history(history, seconds=0.01)
        total = next(reports).events
        append(history, ": 1700000100:0;make docs\n")  # as it starts
        total += next(reports).events
        write(spool_folder(settings.store.path), "zsh.1.spool", "make docs", "make push", start=1_700_000_100.25)
        total += next(reports).events  # as it ends
        assert total == memory.status()["store"]["commands"]["events"] == 3


@pytest.mark.slow
def test_a_watch_that_is_killed_goes_on_where_it_was_beside_another_writer(watching, tmp_path, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "false")
    history = tmp_path / "history.zsh"
    lines = [f": {1_700_000_000 + number}:0;make step{number}\n" for number in range(300)]
    append(history, lines[0])
    for part in (lines[1:100], lines[100:200], lines[200:]):
        watch = watching(history)
        watch.wait(watch.has_told)
        for number, line in enumerate(part):
            append(history, line)
            if number % 20 == 0:
                with Memory(tmp_path / "store") as memory:
                    memory.record(f"other {line.strip()}", 0)
        watch.child.kill()
    watch = watching(history)
    watch.wait(watch.has_told)
    assert watch.end(signal.SIGHUP)[0] == 128 + signal.SIGHUP
    texts = stored(tmp_path)
    assert sorted(text for text in texts if text.startswith("make")) == sorted(line[15:].strip() for line in lines)
    assert len(texts) == 300 + 15


def test_what_cannot_be_followed_is_told_at_once(settings, tmp_path):
    with Memory(settings=settings) as memory:
        with pytest.raises(SourceError, match="No history file"):
            memory.watch_history(tmp_path / "none")
        for seconds in (0, float("nan"), float("inf")):
            with pytest.raises(ConfigError, match="more than 0"):
                memory.watch_history(tmp_path, seconds=seconds)
        with pytest.raises(ConfigError, match="every=True"):
            memory.watch_history(tmp_path, every=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-", "--watch"], "--watch follows files"),
        (["x", "--watch", "--restore"], "--watch follows files"),
        (["x", "--interval", "1"], "--interval is"),
        (["--watch", "--all", "x"], "--all finds"),
        (["--watch", "--interval", "0"], "0.1"),
    ],
    ids=["standard input", "restore", "interval alone", "all and a file", "no pause"],
)
def test_options_that_contradict_each_other_are_refused(words, told):
    done = CliRunner().invoke(cli, ["ingest-history", *words])
    assert done.exit_code == 2
    assert told in done.output
