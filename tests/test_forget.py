"""Forgetting: exactly what was chosen goes, is shown before, and does not come back by itself."""

import re
import shutil
from datetime import UTC, datetime

import pytest
from forget_cases import WordEmbedder, events, quick, stamped, texts
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from store_cases import SEARCHED

from omnimemory.errors import ConfigError, EmbedderError
from omnimemory.memory import Memory

T = 1_700_000_000
POOL, BREAD = "# Pool\n\nThe pool is closed on Mondays.", "# Bread\n\nKnead the dough."
COMMANDS = ("make test", "git push pool", "make test", "ls -la", "git push pool", "df -h")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Return a folder with two documents, a history of six events, and a store of these and two notes."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "docs").mkdir()
    (folder / "docs" / "pool.md").write_text(f"{POOL}\n")
    (folder / "docs" / "bread.md").write_text(f"{BREAD}\n")
    (folder / "history").write_text(stamped(*COMMANDS))
    with quick(folder) as memory:
        memory.ingest(folder / "docs")
        memory.ingest_history(folder / "history", shell="bash")
        metadatas = [{}, {"room": "Poolside"}]
        memory.add(["call the pool", "water the plants"], ids=["pool", "plants"], metadatas=metadatas)
        with memory.store.catalog.transaction() as sql:  # this format tells no folder
            sql.execute("UPDATE events SET cwd = '/src/api', checksum = NULL WHERE position < 2")
            sql.execute("UPDATE events SET cwd = '/src/api2', checksum = NULL WHERE position = 2")
    return folder


@pytest.fixture
def full(template, tmp_path, monkeypatch):
    """A copy of that store, opened where its documents are."""
    monkeypatch.chdir(template)
    shutil.copytree(template / "store", tmp_path / "store")
    with quick(tmp_path) as memory:
        yield memory


ALL = {POOL, BREAD, "call the pool", "water the plants", *COMMANDS}
CHOICES = [
    pytest.param({"pattern": "POOL"}, {POOL, "call the pool", "water the plants", "git push pool"}, 2, id="pattern"),
    pytest.param({"pattern": "re:^git"}, {"git push pool"}, 2, id="regular expression"),
    pytest.param({"pattern": re.compile("P[o]+l")}, {POOL, "water the plants"}, 0, id="compiled expression"),
    pytest.param({"pattern": "pool", "kind": "commands"}, {"git push pool"}, 2, id="pattern and kind"),
    pytest.param(
        {"pattern": "pool", "source": "notes"}, {"call the pool", "water the plants"}, 0, id="pattern in notes"
    ),
    pytest.param({"pattern": "pool", "before": T + 61}, set(), 1, id="pattern and time: the command was run again"),
    pytest.param({"pattern": "test", "before": T + 121}, {"make test"}, 2, id="pattern and time: every run of it"),
    pytest.param({"source": "docs/pool.md"}, {POOL}, 0, id="file"),
    pytest.param({"source": "docs"}, {POOL, BREAD}, 0, id="folder"),
    pytest.param({"source": "history"}, set(COMMANDS), 6, id="history"),
    pytest.param({"source": "history", "kind": "documents"}, set(), 0, id="a history holds no documents"),
    pytest.param({"source": "notes"}, {"call the pool", "water the plants"}, 0, id="all notes"),
    pytest.param({"source": "do"}, set(), 0, id="a prefix of a name is no folder"),
    pytest.param({"after": T + 60, "before": T + 180}, set(), 2, id="from and up to"),
    pytest.param({"after": T + 300}, {"df -h"}, 1, id="from, included"),
    pytest.param({"before": datetime.fromtimestamp(T + 60, UTC)}, set(), 1, id="date"),
    pytest.param({"after": str(datetime.fromtimestamp(T + 300, UTC))}, {"df -h"}, 1, id="date in words"),
    pytest.param({"cwd": "/src/api"}, set(), 2, id="folder of commands, not its neighbour"),
    pytest.param({"cwd": "/src"}, {"make test"}, 3, id="all below a folder of commands"),
    pytest.param({"ids": "plants"}, {"water the plants"}, 0, id="id"),
    pytest.param({"ids": ["plants", "pool", "nobody"]}, {"water the plants", "call the pool"}, 0, id="ids"),
    pytest.param({"query": "knead the dough", "k": 1, "kind": "documents"}, {BREAD}, 0, id="best hit"),
    pytest.param({"query": "knead the dough", "min_score": 0.99}, set(), 0, id="no hit is near enough"),
    pytest.param({"query": "pool", "k": 50, "pattern": "closed"}, {POOL}, 0, id="question and pattern"),
    pytest.param({"query": "pool", "k": 50, "ids": "plants"}, {"water the plants"}, 0, id="question and id"),
]


@pytest.mark.parametrize(("chosen", "gone", "runs"), CHOICES)
def test_what_fits_everything_that_is_given_would_go_and_nothing_is_touched_yet(full, chosen, gone, runs):
    report = full.forget(**chosen, dry_run=True)
    assert {item.text for item in report.items} >= gone
    assert (report.chunks + report.commands, report.events) == (len(gone), runs)
    assert (set(texts(full)), len(events(full)), report.dry_run) == (ALL, 6, True)


REALLY = {"pattern", "pattern and time: the command was run again", "folder", "history", "ids", "best hit"}


@pytest.mark.parametrize(("chosen", "gone", "runs"), [case for case in CHOICES if case.id in REALLY])
def test_what_was_told_goes_and_nothing_else(full, chosen, gone, runs):
    told, report = full.forget(**chosen, dry_run=True), full.forget(**chosen)
    assert set(texts(full)) == ALL - gone
    assert len(events(full)) == 6 - runs
    for name in ("chunks", "commands", "events", "sources", "still_in"):
        assert getattr(told, name) == getattr(report, name), name
    assert (report.unpurged, report.items, told.found) == ((), (), len(told.items))
    rows = full.store.catalog.value(f"SELECT count(*) FROM vectors {SEARCHED}")
    assert rows == full.store.documents.count() + full.store.commands.count()


WRONG = [
    pytest.param({}, "Say what to forget", id="nothing"),
    pytest.param({"kind": "commands"}, "Say what to forget", id="only a kind"),
    pytest.param({"pattern": "x", "kind": "chats"}, "no kind 'chats'", id="kind"),
    pytest.param({"pattern": " "}, "pattern is empty", id="blank pattern"),
    pytest.param({"pattern": "re:("}, "no regular expression", id="broken expression"),
    pytest.param({"query": "x"}, "how many to forget", id="a question without an end"),
    pytest.param({"query": " ", "k": 1}, "question is empty", id="blank question"),
    pytest.param({"query": "x", "k": 0}, "k must be at least 1", id="no hits"),
    pytest.param({"after": "monday"}, "after is no date", id="no date"),
    pytest.param({"before": float("nan")}, "before is a date", id="no number"),
    pytest.param({"after": "0001-01-01"}, "too far away", id="far date"),
    pytest.param({"after": 5, "before": 5}, "must be earlier", id="empty range"),
    pytest.param({"cwd": "/", "kind": "documents"}, "Only commands have a time", id="documents have no folder"),
    pytest.param({"ids": []}, "ids are texts", id="no ids"),
    pytest.param({"source": ""}, "is no path", id="no source"),
]


@pytest.mark.parametrize(("given_", "complaint"), WRONG)
def test_what_makes_no_sense_is_refused_and_nothing_goes(full, given_, complaint):
    with pytest.raises(ConfigError, match=complaint):
        full.forget(**given_)
    assert set(texts(full)) == ALL


def test_nothing_goes_unless_what_was_shown_is_confirmed(full):
    shown = []

    def answer(report):
        shown.append(report)
        return len(shown) > 1

    assert full.forget(pattern="dough", confirm=answer).dry_run
    assert BREAD in texts(full)
    assert not full.forget(pattern="dough", confirm=answer).dry_run
    assert BREAD not in texts(full)
    assert [[item.text for item in report.items] for report in shown] == [[BREAD], [BREAD]]


class DownEmbedder(WordEmbedder):
    def embed(self, texts, role):
        raise EmbedderError("the model is down")


def test_a_question_that_cannot_be_understood_forgets_nothing(full):
    with Memory(settings=full.settings, embedder=DownEmbedder(256)) as memory:
        with pytest.raises(EmbedderError, match="Nothing was forgotten"):
            memory.forget("where is the swimming pool?", k=5)
        assert set(texts(memory)) == ALL


def test_what_is_forgotten_is_not_found_and_the_rest_is(full):
    full.forget(pattern="pool")
    for mode in ("hybrid", "keyword", "vector"):
        assert not [hit for hit in full.search("pool closed", mode=mode) if "pool" in hit.text.casefold()]
    assert full.search("dough", mode="keyword")[0].text == BREAD
    assert full.search("make test", kind="commands")[0].metadata["count"] == 2


def test_the_report_names_the_users_own_files_and_paths_that_hold_it_still(full, template):
    report = full.forget(pattern="pool")
    assert report.still_in == (str(template / "docs" / "pool.md"), str(template / "history"))
    assert any("of the paths hold the pattern" in note and "source=" in note for note in report.notes)
    assert full.forget(pattern="no such thing").notes == ("nothing stored matches",)


LINES = st.lists(st.text("ab ", min_size=1, max_size=5).map(lambda text: f"x{text}y"), min_size=1, max_size=12)


@limits(max_examples=8)
@given(LINES, st.sampled_from(["a", "b", "aa", "y"]), st.booleans(), st.data())
def test_a_history_read_again_in_any_form_brings_nothing_back(tmp_path_factory, lines, pattern, times, data):
    """Forgetting and reading on is the same as never having known."""
    folder = tmp_path_factory.mktemp("law")
    again = data.draw(st.lists(st.sampled_from(lines), max_size=4))
    cut = data.draw(st.integers(0, len(lines)))
    found = []
    for name in ("forgot", "never knew"):
        path = folder / name
        with quick(folder / f"{name}.mem", **{"cache.enabled": False}) as memory:
            for commands in (lines, lines[cut:] + again):
                known = [text if name == "forgot" or pattern not in text else None for text in commands]
                path.write_text(_history(known, times, first=T + 60 * cut * (commands is not lines)))
                memory.ingest_history(path, shell="bash")
                if commands is lines:
                    memory.forget(pattern=pattern)
            found.append((texts(memory), [text for text, _ in events(memory)]))
    assert found[0] == found[1]


def _history(commands, times, first):
    stamps = [f"#{first + 60 * n}\n" if times else "" for n in range(len(commands))]
    return "".join(f"{stamp}{text}\n" for stamp, text in zip(stamps, commands, strict=True) if text is not None)
