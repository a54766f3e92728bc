"""Importing into a memory that knows something already: it keeps its own, tells so, and lets no secret in."""

import base64
import io

import numpy as np
import pytest
from transfer_cases import ZSH, another, export_of, exported, fill, imported, lines_of, memory_of, sealed

from omnimemory.errors import SourceError
from omnimemory.memory import Memory
from omnimemory.storage.sources import reopen_source
from omnimemory.storage.tombstones import add_stones, read_tombstones
from omnimemory.transfer import imports
from omnimemory.transfer.given import GivenVectors

TOKEN = "ghp_" + "a1B2c3D4e5" * 3 + "f6G7h8"


@pytest.fixture
def memory(settings):
    with memory_of(settings) as opened:
        yield opened


@pytest.fixture
def second(settings):
    """A second, empty memory beside the first."""
    with memory_of(another(settings, "second")) as opened:
        yield opened


def take(memory, data, **options):
    return memory.import_(io.BytesIO(data), **options)


def texts(memory, table="chunks"):
    return sorted(text for (text,) in memory.store.catalog.rows(f"SELECT text FROM {table}"))


# -- what the store knows otherwise


def test_a_note_that_the_store_knows_otherwise_stays_and_is_told(memory, second):
    memory.add(["first", "same"], ids=["a", "b"])
    second.add(["my own", "same", "mine alone"], ids=["a", "b", "c"])
    report = take(second, exported(memory))
    assert (report.added, report.unchanged) == (0, 1)
    assert [(failure.source, failure.error) for failure in report.failures] == [("a", False)]
    assert texts(second) == ["mine alone", "my own", "same"]


def test_a_file_that_the_store_has_read_itself_stays_as_it_is_there(memory, second, tmp_path):
    file = tmp_path / "notes.md"
    file.write_text("# Old\n\nThe old text.\n")
    memory.ingest(file)
    file.write_text("# New\n\nThe new text.\n\n# More\n\nAnd more.\n")
    second.ingest(file)
    before = exported(second)
    report = take(second, exported(memory))
    assert (report.added, len(report.failures)) == (0, 1)
    assert "another version" in report.failures[0].reason
    assert exported(second) == before


def test_events_with_times_are_merged_and_none_is_doubled(memory, second, tmp_path):
    history = tmp_path / "zsh_history"
    history.write_text(ZSH)
    memory.ingest_history(history, shell="zsh")
    history.write_text(": 1600000000:0;an older one\n" + ZSH.splitlines(keepends=True)[0])
    second.ingest_history(history, shell="zsh")
    data = exported(memory)
    assert take(second, data).events == 3
    assert take(second, data).events == 0
    assert second.status()["store"]["commands"]["events"] == 5
    history.write_text(history.read_text() + ZSH.splitlines(keepends=True)[1] + ": 1800000000:0;the newest\n")
    assert second.ingest_history(history, shell="zsh").events == 1


def test_events_without_times_do_not_take_the_places_of_those_still_to_be_read(memory, second, tmp_path):
    history = tmp_path / "bash_history"
    history.write_text("from elsewhere 1\nfrom elsewhere 2\nfrom elsewhere 3\n")
    memory.ingest_history(history, shell="bash")
    history.write_text("mine 1\n")
    second.ingest_history(history, shell="bash")
    report = take(second, exported(memory))
    assert (report.added, report.events) == (0, 0)
    assert "3 of its events have no time and were left out" in report.failures[0].reason
    history.write_text("mine 1\nmine 2\nmine 3\n")
    assert second.ingest_history(history, shell="bash").events == 2
    assert texts(second, "commands") == ["mine 1", "mine 2", "mine 3"]


def test_a_history_whose_last_ingest_died_is_not_filled_up_but_merged(memory, second, tmp_path):
    history = tmp_path / "bash_history"
    history.write_text("one\ntwo\n")
    memory.ingest_history(history, shell="bash")
    history.write_text("three\n")
    second.ingest_history(history, shell="bash")
    with second.store.catalog.transaction() as sql:
        reopen_source(sql, 1)
    report = take(second, exported(memory))
    assert (report.events, "2 of its events have no time" in report.failures[0].reason) == (0, True)


def test_a_chunk_whose_id_is_a_note_leaves_the_file_to_be_read_again(memory, second, tmp_path):
    file = tmp_path / "notes.md"
    file.write_text("# Old\n\nThe old text.\n")
    memory.ingest(file)
    (public,) = (line["chunk"] for line in lines_of(exported(memory)) if "chunk" in line)
    second.add("Something else.", ids=public)
    report = take(second, exported(memory))
    assert report.added == 0
    assert {failure.source for failure in report.failures} == {
        public,
        f"file:///{str(file).lstrip('/')}",
    } or report.failures
    assert texts(second) == ["Something else."]


# -- what was forgotten


def test_what_was_forgotten_here_stays_out(memory, second, tmp_path):
    fill(memory, tmp_path)
    stones, lines = read_tombstones(second.store.catalog), lines_of(exported(memory))
    source = next(number for number, line in enumerate(lines) if "deploy.md" in line.get("source", ""))
    uri, chunk = lines[source]["source"], lines[source + 1]["text"]
    forgotten = [stones.command("make test"), stones.chunk("notes", "Call Ada."), stones.chunk(uri, chunk)]
    with second.store.catalog.transaction() as sql:
        add_stones(sql, forgotten)
    report = take(second, exported(memory))
    assert "make test" not in texts(second, "commands")
    assert not {"Call Ada.", chunk} & set(texts(second))
    assert {failure.reason for failure in report.failures} == {"1 of its parts were left out: they were forgotten here"}
    assert second.status()["store"]["commands"]["events"] == 6


def test_an_import_stores_nothing_after_something_was_forgotten_meanwhile(settings, memory, monkeypatch):
    memory.add([f"note {number}" for number in range(60)])
    monkeypatch.setattr(imports, "_TICK_LINES", 10)
    small = another(settings, "second").with_values({"embedding.batch_size": 8})
    with memory_of(small) as second:

        def forget(progress):
            if progress.stage == "import":
                with second.store.catalog.transaction() as sql:
                    add_stones(sql, [read_tombstones(second.store.catalog).chunk("notes", "note 59")])

        data = exported(memory)
        report = take(second, data, progress=forget)
        assert report.failed == 1
        assert "run it again" in report.failures[-1].reason
        assert "note 59" not in texts(second)
        take(second, data)
        assert len(texts(second)) == 59


# -- secrets


def test_commands_are_redacted_once_more_unless_their_secrets_are_to_be_kept(settings, tmp_path):
    secret = "hunter2Rabbit"
    history = tmp_path / "zsh_history"
    history.write_text(f": 1700000000:0;mysql -u root -p{secret} shop\n: 1700000001:0;ls\n: 1700000001:0;  spaced\n")
    kept = another(settings, "kept")
    with memory_of(kept) as memory:
        memory.ingest_history(history, shell="zsh", keep_secrets=True)
        data = exported(memory, vectors=True)
    assert secret.encode() in data
    clean = another(settings, "clean")
    report = imported(clean, data)
    assert report.redacted == 1
    with memory_of(clean) as memory:
        assert [line["state"]["secrets"] for line in lines_of(exported(memory)) if line.get("kind")] == [False]
        assert memory.ingest_history(history, shell="zsh").events == 0
        assert any("[REDACTED" in text for text in texts(memory, "commands"))
    files = [path for path in settings.store.path.parent.rglob("clean*/**/*") if path.is_file()]
    assert files
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    again = another(settings, "again")
    imported(again, data, keep_secrets=True)
    assert export_of(again, vectors=True) == data


def test_what_an_older_version_let_through_in_texts_is_redacted(memory, second, tmp_path):
    (tmp_path / "notes.md").write_text("# Key\n\nThe key is HERE, use it.\n")
    memory.ingest(tmp_path / "notes.md")
    memory.add(["note HERE", "named HERE"], ids=["x", "y"], metadatas=[{"key": "HERE"}, {}])
    data = sealed([_with_token(line) for line in lines_of(exported(memory))])
    report = take(second, data)
    assert report.redacted == 4
    assert TOKEN.encode() not in exported(second)
    assert take(second, data).added == 0
    found = second.ingest(tmp_path / "notes.md")
    assert (found.added, found.deleted) == (1, 1)


def _with_token(value):
    if isinstance(value, dict):
        return {key: _with_token(member) for key, member in value.items()}
    return value.replace("HERE", TOKEN) if isinstance(value, str) else value


# -- vectors


def test_vectors_of_another_space_are_left_out_and_told(settings, tmp_path):
    with Memory(settings=settings, dim=64) as memory:
        fill(memory, tmp_path)
        data, plain = exported(memory, vectors=True), exported(memory)
    other = another(settings, "other")
    report = imported(other, data)
    assert (report.reused, report.cache_hits + report.embedded) == (0, 9)
    assert [failure.source for failure in report.failures] == ["vectors"]
    assert "wordllama-64" in report.failures[0].reason
    assert lines_of(export_of(other))[1:] == lines_of(plain)[1:]


def test_vectors_that_are_not_what_the_model_makes_of_the_texts_are_not_believed(memory, second, tmp_path):
    fill(memory, tmp_path)
    lines, chance = lines_of(exported(memory, vectors=True)), np.random.default_rng(3)
    for line in lines:
        if "vector" in line:
            made = chance.normal(size=256).astype("<f4")
            line["vector"] = base64.b64encode((made / np.linalg.norm(made)).astype("<f4")).decode()
    report = take(second, sealed(lines))
    assert report.reused == 0
    assert "not what the model makes" in report.failures[-1].reason
    assert exported(second, vectors=True) == exported(memory, vectors=True)


def test_a_vector_that_has_another_length_than_one_is_damage(memory, second):
    memory.add("A text.")
    lines = lines_of(exported(memory, vectors=True))
    made = np.full(256, 0.5, dtype="<f4")
    lines[2]["vector"] = base64.b64encode(made).decode()
    with pytest.raises(SourceError, match="line 3: damaged: its 'vector'"):
        take(second, sealed(lines))


def test_no_more_vectors_are_held_than_a_batch_has(settings, memory, monkeypatch):
    held = []

    class Watched(GivenVectors):
        def give(self, text, vector):
            super().give(text, vector)
            held.append(len(self._given))

    monkeypatch.setattr(imports, "GivenVectors", Watched)
    memory.add([f"note {number}" for number in range(40)])
    with memory_of(another(settings, "second").with_values({"embedding.batch_size": 8})) as second:
        assert take(second, exported(memory, vectors=True)).reused == 40
    assert (len(held), max(held)) == (40, 8)


def test_vectors_from_a_file_do_not_go_into_the_cache_of_all_stores(memory, second):
    memory.add(["one text", "another text"])
    assert take(second, exported(memory, vectors=True)).reused == 2
    _, known = second.cache.get_many(
        second.embeddings.embedder.fingerprint, "document", 256, ["one text", "another text"]
    )
    assert int(known.sum()) == 1  # the one that the model was asked for, to compare
