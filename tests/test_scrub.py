"""Scrubbing: after a rule update nothing is stored that the new rules would have taken out, and not a byte of it."""

import signal

import pytest
from forget_cases import WordEmbedder, files_with, holders, marker, quick, stamped, texts
from store_cases import start
from test_versions import as_written_by

from omnimemory.errors import EmbedderError
from omnimemory.memory import Memory
from omnimemory.storage.tombstones import purges

WORD = marker(11)
RULES = {"redaction.deny": [f"/{WORD}[0-9]*/"]}
GONE = "[REDACTED:own]"
OWN = ("docs/", "history")
COMMANDS = (f"login --code {WORD}1", "ls", f"login --code {WORD}2", "login --code x", f"login --code {WORD}1")


def write_files(folder):
    docs = folder / "docs"
    docs.mkdir(parents=True)
    for number in range(2):
        parts = [f"## Part {n}\n\n" + f"About knots and sails{n}. " * 50 for n in range(3)]
        parts.append(f"## The {WORD} part\n\nIt is {WORD}{number}." if number else "## Last\n\nNothing.")
        (docs / f"{number}.md").write_text("# Title\n\n" + "\n\n".join(parts) + "\n")
    (folder / "history").write_text(stamped(*COMMANDS))
    return folder


def read(memory, folder):
    memory.ingest(folder / "docs")
    memory.ingest_history(folder / "history", shell="bash")
    memory.add([f"the code is {WORD}7", "knots"])
    memory.add(f"sails and {WORD}", ids="own", metadatas={"k": f"{WORD}8", "n": 1})


def stored(memory):
    """Return what a memory holds, without what only numbers it."""
    rows = memory.store.catalog.rows
    return {
        "chunks": rows("SELECT chunk_id, start_char, end_char, text, heading, metadata FROM chunks ORDER BY chunk_id"),
        "events": rows(
            "SELECT hex(e.key), c.text, e.position, e.timestamp FROM events e JOIN commands c ON c.id = e.command_row "
            "ORDER BY e.position"
        ),
        "commands": rows("SELECT command_id, text, pending FROM commands ORDER BY command_id"),
        "vectors": rows("SELECT count(*) FROM vectors"),
        "words": [hit.id for hit in memory.search("code part knots login", mode="keyword", k=50)],
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("corpus"))


def test_a_scrubbed_memory_is_what_it_would_be_had_the_rules_been_there_from_the_start(corpus, tmp_path):
    with quick(tmp_path / "late") as memory:
        read(memory, corpus)
        assert any(WORD in text for text in texts(memory))
    with quick(tmp_path / "late", **RULES) as memory:
        told = memory.scrub(dry_run=True)
        assert any(WORD in text for text in texts(memory))
        report = memory.scrub()
        assert not any(WORD in text for text in texts(memory))
        assert (told.chunks, told.commands, told.events) == (report.chunks, report.commands, report.events) == (3, 2, 3)
        assert told.redactions == report.redactions
        assert (report.pending, report.unpurged, report.deleted) == (0, (), 0)
        assert report.embedded == 4  # two commands became one
        memory.ingest(corpus / "docs")
        memory.ingest_history(corpus / "history", shell="bash")
        late = stored(memory)
        assert memory.scrub().chunks + memory.scrub().commands == 0
    with quick(tmp_path / "early", **RULES) as memory:
        read(memory, corpus)
        early = stored(memory)
    assert late == early


def test_not_a_byte_of_the_old_texts_is_left_anywhere(tmp_path):
    write_files(tmp_path)
    with quick(tmp_path) as memory:
        read(memory, tmp_path)
        old = memory.embeddings.embed_text(COMMANDS[0]).tobytes()[64:192]
    as_written_by(tmp_path / "store" / "catalog.sqlite3", "0001")
    with quick(tmp_path) as memory:
        memory.backup(tmp_path / "backup")
        with memory.store.catalog.transaction() as sql:
            sql.execute("INSERT INTO generations (state) VALUES ('active')")
    (tmp_path / "store" / "index" / "1").mkdir(parents=True)
    (tmp_path / "store" / "index" / "1" / "chroma.sqlite3").write_text(
        WORD
    )  # what an index holds is not asked for here
    where = " ".join(holders(tmp_path, WORD, but=OWN))
    assert all(name in where for name in ("store/index", "schema-0001", "backup/catalog", "store/catalog.sqlite3"))
    with quick(tmp_path, **RULES) as memory:
        assert memory.scrub().backups == 2
        assert memory.store.generations.active() is None
    assert holders(tmp_path, WORD, but=OWN) == []
    assert files_with(tmp_path, [[old]]) == [[]]
    for name in ("store/catalog.sqlite3.schema-0001.backup", "backup/catalog.sqlite3"):
        (tmp_path / "again" / "store").mkdir(parents=True, exist_ok=True)
        (tmp_path / name).replace(tmp_path / "again" / "store" / "catalog.sqlite3")
        with quick(tmp_path / "again") as memory:
            assert len(texts(memory)) > 5
            assert memory.search("login", mode="keyword", kind="commands")[0].text.startswith("login --code")
        for left in (tmp_path / "again" / "store").iterdir():
            left.unlink()


def test_the_folders_of_events_are_scrubbed_and_paths_of_sources_are_told(tmp_path):
    (tmp_path / f"{WORD}.md").write_text("Knots.")
    (tmp_path / "history").write_text(stamped("ls", "make"))
    with quick(tmp_path) as memory:
        memory.ingest(tmp_path / f"{WORD}.md")
        memory.ingest_history(tmp_path / "history", shell="bash")
        with memory.store.catalog.transaction() as sql:
            sql.execute("UPDATE events SET cwd = ?, host = ?, checksum = NULL WHERE position = 0", (f"/x/{WORD}", WORD))
    with quick(tmp_path, **RULES) as memory:
        report = memory.scrub()
        assert memory.store.catalog.rows("SELECT cwd, host FROM events ORDER BY position") == [
            (f"/x/{GONE}", GONE),
            (None, None),
        ]
        (note,) = report.notes
        assert "looks like a secret itself" in note
        assert WORD not in note


SECRET = "mysql -u root -p" + "hunter2" + "x9" + " shop"
CLEAN = "mysql -u root -p[REDACTED:flag] shop"


def test_secrets_that_are_kept_on_request_stay_as_long_as_that_is_asked_for(tmp_path):
    (tmp_path / "kept").write_text(stamped(SECRET, "ls", " cd hidden", first=1_700_000_000))
    with quick(tmp_path) as memory:
        memory.ingest_history(tmp_path / "kept", shell="bash", keep_secrets=True)
    with quick(tmp_path, **{"history.keep_secrets": True}) as memory:
        report = memory.scrub()
        assert (report.kept, report.commands, report.deleted) == (2, 0, 0)
        assert SECRET in texts(memory)
    with quick(tmp_path) as memory:
        report = memory.scrub()
        assert (report.kept, report.commands, report.deleted, report.redactions) == (0, 1, 1, {"flag": 1})
        assert texts(memory) == ["ls", CLEAN]
        assert memory.ingest_history(tmp_path / "kept", shell="bash").events == 0
        assert memory.store.catalog.value("SELECT count(*) FROM events") == 2


@pytest.mark.parametrize("scrubs", ["scrub", "ingest"])
def test_an_open_last_line_is_not_doubled_by_the_next_read(tmp_path, scrubs):
    history = tmp_path / "history"
    history.write_text(f"#1700000000\nls\n#1700000060\n{SECRET}")
    with quick(tmp_path) as memory:
        memory.ingest_history(history, shell="bash", keep_secrets=True)
        if scrubs == "scrub":
            memory.scrub()
        else:
            (tmp_path / "one more").write_text("")
        memory.ingest_history(history, shell="bash")
        history.write_text(f"#1700000000\nls\n#1700000060\n{SECRET}\n#1700000120\npwd\n")
        memory.ingest_history(history, shell="bash")
        rows = "SELECT c.text FROM events e JOIN commands c ON c.id = e.command_row ORDER BY e.timestamp"
        assert memory.store.catalog.rows(rows) == [("ls",), (CLEAN,), ("pwd",)]


class DownEmbedder(WordEmbedder):
    def embed(self, texts, role):
        raise EmbedderError("the model is down")


def test_while_the_model_is_down_the_new_texts_wait_and_the_old_ones_are_gone(corpus, tmp_path):
    with quick(tmp_path) as memory:
        read(memory, corpus)
        settings = memory.settings
    with Memory(settings=settings.with_values(RULES), embedder=DownEmbedder(256)) as memory:
        report = memory.scrub()
        assert (report.pending, report.embedded, report.unpurged) == (4, 0, ())
        assert memory.search("login", mode="keyword", kind="commands")
    assert holders(tmp_path, WORD) == []
    with quick(tmp_path, **RULES) as memory:
        assert (memory.scrub().pending, memory.scrub().embedded) == (0, 0)
        assert memory.store.catalog.value("SELECT count(*) FROM vectors") == len(texts(memory))


SCRUB = """
import sys
from pathlib import Path
from forget_cases import quick
with quick(Path(sys.argv[1]), **{"redaction.deny": [sys.argv[2]]}) as memory:
    print(memory.scrub().unpurged)
"""


def test_a_scrub_that_is_killed_is_completed_by_the_next(corpus, tmp_path):
    with quick(tmp_path) as memory:
        read(memory, corpus)
        memory.backup(tmp_path / "backup")
    child = start(SCRUB, tmp_path, RULES["redaction.deny"][0], OMNIMEMORY_FAULTS="purge.backup:kill")
    _, error = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, error
    assert "backup/catalog.sqlite3" in holders(tmp_path, WORD)
    with quick(tmp_path, **RULES) as memory:
        assert not [text for text in texts(memory) if WORD in text]
        assert purges(memory.store.catalog)
        assert (memory.scrub().unpurged, memory.store.catalog.value("SELECT count(*) FROM purges")) == ((), 0)
    assert holders(tmp_path, WORD) == []
