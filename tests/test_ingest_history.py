"""Shell histories into the store: what happens to them in real life, and that no event is doubled, lost or half."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from store_cases import SEARCHED

from omnimemory.errors import SourceError
from omnimemory.memory import Memory

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "hunter2" + "x9"
SECRET = f"mysql -u root -p{PASSWORD} shop"
CLEAN = "mysql -u root -p[REDACTED:flag] shop"


@pytest.fixture
def history(tmp_path):
    return tmp_path / "history"


def events(memory):
    """Return (command, time) of all events, in the order of their sources' lines."""
    return memory.store.catalog.rows(
        "SELECT c.text, e.timestamp FROM events e JOIN commands c ON c.id = e.command_row "
        "ORDER BY e.source_id, e.position"
    )


def commands(memory):
    return [text for (text,) in memory.store.catalog.rows("SELECT text FROM commands ORDER BY id")]


def plain(names):
    return "".join(f"{name}\n" for name in names)


def stamped(names, first=1_700_000_000):
    return "".join(f"#{first + n}\n{name}\n" for n, name in enumerate(names))


NAMES = [f"make target{n % 13} --level {n % 5}" for n in range(40)]


# -- lines that change


def test_a_half_written_line_leaves_neither_its_event_nor_its_command(memory, history):
    history.write_text("ls\ngit comm")
    memory.ingest_history(history, shell="bash")
    history.write_text("ls\ngit commit -m 'whole'\n")
    report = memory.ingest_history(history, shell="bash")
    assert (report.added, report.events, report.unchanged) == (1, 0, 1)
    assert commands(memory) == ["ls", "git commit -m 'whole'"]
    assert not memory.search("comm", mode="keyword", kind="commands", where={"count": 0})
    assert memory.store.catalog.value(f"SELECT count(*) FROM vectors {SEARCHED}") == 2


def test_a_command_that_others_use_stays_when_one_of_its_lines_changes(memory, history):
    history.write_text("make\nls\nmake")
    memory.ingest_history(history, shell="bash")
    history.write_text("make\nls\nmake test\n")
    memory.ingest_history(history, shell="bash")
    assert commands(memory) == ["make", "ls", "make test"]
    assert memory.search("make", kind="commands", mode="keyword", where={"count": 1}, k=3)[0].metadata["count"] == 1


def test_a_line_that_grew_too_long_takes_its_event_along_and_none_is_owed(memory, history):
    history.write_text("ls\necho x")
    memory.ingest_history(history, shell="bash")
    history.write_text("ls\necho x" + "y" * 70_000 + "\n")
    report = memory.ingest_history(history, shell="bash")
    assert (report.events, report.skipped) == (0, 1)
    assert events(memory) == [("ls", None)]


def test_a_history_that_was_trimmed_and_then_grows_has_each_event_once(memory, history):
    history.write_text(stamped(NAMES))
    memory.ingest_history(history, shell="bash")
    history.write_text(stamped(NAMES[10:], first=1_700_000_010))
    assert memory.ingest_history(history, shell="bash").events == 0
    history.write_text(stamped([*NAMES[10:], "echo new"], first=1_700_000_010))
    assert memory.ingest_history(history, shell="bash").events == 1
    assert len(events(memory)) == len(NAMES) + 1


def test_a_half_written_line_of_a_trimmed_history_is_replaced_too(memory, history):
    history.write_text(plain(NAMES) + "make dep")
    memory.ingest_history(history, shell="bash")
    history.write_text(plain(NAMES[10:]) + "make dep")
    memory.ingest_history(history, shell="bash")
    history.write_text(plain(NAMES[10:]) + "make deploy\n")
    memory.ingest_history(history, shell="bash")
    assert [name for name, _ in events(memory)] == [*NAMES, "make deploy"]
    assert "make dep" not in commands(memory)


# -- times that come and go


@pytest.mark.parametrize("trimmed", [0, 15], ids=["whole", "trimmed"])
def test_a_history_that_is_given_times_later_has_each_event_once(memory, history, trimmed):
    history.write_text(plain(NAMES))
    memory.ingest_history(history, shell="bash")
    history.write_text(stamped([*NAMES[trimmed:], "echo new", "echo newer"]))
    report = memory.ingest_history(history, shell="bash")
    assert (report.events, report.added) == (2, 2)
    stored = events(memory)
    assert sorted(name for name, _ in stored) == sorted([*NAMES, "echo new", "echo newer"])
    assert sum(time is None for _, time in stored) == trimmed


def test_a_history_that_loses_its_times_has_each_event_once(memory, history):
    history.write_text(stamped(NAMES))
    memory.ingest_history(history, shell="bash")
    history.write_text(plain([*NAMES, "echo new"]))
    assert memory.ingest_history(history, shell="bash").events == 1
    assert [name for name, _ in events(memory)] == [*NAMES, "echo new"]


def test_times_switched_on_for_new_lines_only_keep_the_old_lines_as_they_are(memory, history):
    history.write_text(plain(NAMES))
    memory.ingest_history(history, shell="bash")
    history.write_text(plain(NAMES) + stamped(NAMES[:3]))
    assert memory.ingest_history(history, shell="bash").events == 3
    history.write_text(plain(NAMES[10:]) + stamped([*NAMES[:3], "echo new"]))
    assert memory.ingest_history(history, shell="bash").events == 1
    stored = events(memory)
    assert len(stored) == len(NAMES) + 4
    assert sum(time is not None for _, time in stored) == 4


def test_times_that_run_backwards_are_kept(memory, history):
    history.write_text(": 1700000100:0;a\n: 1700000000:0;b\n")
    memory.ingest_history(history, shell="zsh")
    with history.open("a") as file:
        file.write(": 1600000000:0;a\n: 1700000100:0;a\n: 1700000000:0;b\n")
    assert memory.ingest_history(history, shell="zsh").events == 3
    history.write_text(": 1600000000:0;a\n: 1700000100:0;a\n")
    assert memory.ingest_history(history, shell="zsh").events == 0
    assert len(events(memory)) == 5


# -- files


def test_a_history_that_is_also_a_document_is_both(memory, tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "history.txt").write_text("ls -la\ngit status\nmake test\n")
    (folder / "other.md").write_text("another file")
    for _ in range(2):
        assert memory.ingest(folder).deleted == 0
        memory.ingest_history(folder / "history.txt", shell="bash")
    assert memory.ingest(folder).unchanged == 2
    assert memory.ingest_history(folder / "history.txt", shell="bash").events == 0
    (folder / "history.txt").unlink()
    assert memory.ingest(folder).deleted == 1
    assert memory.status()["store"]["commands"] == {"sources": 1, "commands": 3, "events": 3, "pending": 0}


def test_two_ways_to_one_file_are_one_history(memory, history, tmp_path):
    history.write_text(plain(NAMES))
    (tmp_path / "link").symlink_to(history)
    memory.ingest_history(history, shell="bash")
    assert memory.ingest_history(tmp_path / "link", shell="bash").events == 0


def test_a_history_may_have_any_name_and_a_loop_of_links_says_what_it_is(memory, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/history-\xff"))
    odd.write_text("ls\n")
    assert memory.ingest_history(odd, shell="bash").events == 1
    assert memory.ingest_history(odd, shell="bash").events == 0
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SourceError, match="symbolic links"):
        memory.ingest_history(tmp_path / "loop")


def test_the_same_bytes_read_as_another_shells_replace_the_misreading(memory, history):
    history.write_text("".join(f": {1_700_000_000 + n}:0;make {n % 3}\n" for n in range(6)))
    memory.ingest_history(history, shell="bash")
    assert commands(memory)[0].startswith(": 1700000000")
    report = memory.ingest_history(history, shell="zsh")
    assert (report.added, report.events) == (3, 6)
    assert commands(memory) == ["make 0", "make 1", "make 2"]
    assert [time for _, time in events(memory)] == [1_700_000_000.0 + n for n in range(6)]
    assert memory.ingest_history(history).events == 0


def test_a_file_that_another_shell_writes_now_keeps_what_the_first_one_wrote(memory, history):
    history.write_text(plain(NAMES[:9]))
    memory.ingest_history(history, shell="bash")
    history.write_text(": 1700000000:0;make new\n")
    assert memory.ingest_history(history, shell="zsh").events == 1
    assert [name for name, _ in events(memory)] == [*NAMES[:9], "make new"]


# -- secrets


def test_secrets_that_were_kept_go_when_the_history_is_read_without_that_request(memory, history):
    history.write_text(f"{SECRET}\nls\n cd hidden\n{SECRET}\n")
    memory.ingest_history(history, shell="bash", keep_secrets=True)
    assert SECRET in commands(memory)
    history.write_text("")  # the file may have lost the lines: what is stored is what matters
    report = memory.ingest_history(history, shell="bash")
    assert (report.redacted, report.events) == (1, 0)
    assert [name for name, _ in events(memory)] == [CLEAN, "ls", CLEAN]
    assert not {SECRET, " cd hidden"} & set(commands(memory))
    hit = memory.search("mysql root shop", kind="commands")[0]
    assert (hit.text, hit.metadata["count"]) == (CLEAN, 2)
    assert not memory.search(PASSWORD, kind="commands", mode="keyword")
    assert memory.ingest_history(history, shell="bash").redacted == 0


def test_a_scrubbed_history_and_its_clean_copy_share_their_events(memory, history, tmp_path):
    (tmp_path / "copy").write_text(stamped([SECRET, SECRET, "ls"]))
    memory.ingest_history(tmp_path / "copy", shell="bash")
    history.write_text(stamped([SECRET, SECRET, "ls"]))
    memory.ingest_history(history, shell="bash", keep_secrets=True)
    assert len(events(memory)) == 5
    memory.ingest_history(history, shell="bash")
    assert sorted(events(memory)) == [("ls", 1_700_000_002.0), (CLEAN, 1_700_000_000.0), (CLEAN, 1_700_000_001.0)]


def test_keeping_secrets_from_now_on_says_what_stays(memory, history):
    history.write_text(f"{SECRET}\n")
    memory.ingest_history(history, shell="bash")
    history.write_text(f"{SECRET}\nls\n{SECRET}\n")
    report = memory.ingest_history(history, shell="bash", keep_secrets=True)
    assert any("stays without its secrets" in failure.reason for failure in report.failures)
    assert [name for name, _ in events(memory)][1:] == ["ls", SECRET]
    assert memory.ingest_history(history, shell="bash", keep_secrets=True).failures == ()


# -- what the report says


def test_unchanged_counts_the_commands_that_were_there_before(memory, history, tmp_path):
    history.write_text(plain(["a", "b", "a", "c"]))
    first = memory.ingest_history(history, shell="bash")
    assert (first.added, first.unchanged, first.events) == (3, 0, 4)
    again = memory.ingest_history(history, shell="bash")
    assert (again.added, again.unchanged, again.events) == (0, 3, 0)
    with history.open("a") as file:
        file.write("b\nd\n")
    grown = memory.ingest_history(history, shell="bash")
    assert (grown.added, grown.unchanged, grown.events) == (1, 3, 2)
    (tmp_path / "other").write_text(plain(["a", "e"]))
    other = memory.ingest_history(tmp_path / "other", shell="bash")
    assert (other.added, other.unchanged, other.events) == (1, 1, 2)


def test_commands_that_are_left_out_are_counted_once(memory, history):
    history.write_text(" one\n two\n three\nls\n")
    report = memory.ingest_history(history, shell="bash")
    assert (report.skipped, report.failed, len(report.failures)) == (3, 0, 1)


# -- deaths

KILLED = """
import os, sys
from contextlib import contextmanager
from omnimemory.config import Settings
from omnimemory.memory import Memory
from omnimemory.storage.catalog import Catalog

store, cache, history, when = sys.argv[1:5]
real, commits = Catalog.transaction, [0]

@contextmanager
def counted(self):
    with real(self) as sql:
        yield sql
        commits[0] += 1
        if commits[0] == int(when):
            os.kill(os.getpid(), 9)

Catalog.transaction = counted
values = {"store.path": store, "cache.path": cache, "index.enabled": False, "embedding.batch_size": 4}
with Memory(settings=Settings().with_values(values)) as memory:
    memory.ingest_history(history, shell="bash", keep_secrets=True)
"""


@pytest.mark.parametrize("commit", range(1, 5))
def test_a_run_that_is_killed_at_any_commit_leaves_no_trace(settings, history, commit):
    history.write_text(plain(NAMES[:5]))
    with Memory(settings=settings) as memory:
        memory.ingest_history(history, shell="bash")
        before = (events(memory), commands(memory))
    history.write_text(plain([*NAMES[:5], *(f"echo {n} {PASSWORD}" for n in range(12)), SECRET]))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(settings.store.path), str(settings.cache.path), str(history), str(commit)],
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert killed.returncode == -9
    history.write_text(plain(NAMES[:5]))
    with Memory(settings=settings) as memory:
        memory.ingest_history(history, shell="bash")
        assert (events(memory), commands(memory)) == before
        assert memory.store.catalog.value(f"SELECT count(*) FROM vectors {SEARCHED}") == len(before[1])
