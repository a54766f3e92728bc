"""A memory whose model is on a server: what happens to documents, commands and questions while that is not there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_ollama import FakeModel, FakeOllama, word_vector

from omnimemory.errors import ModelServerError, SpaceMismatchError
from omnimemory.memory import Memory

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def server():
    with FakeOllama() as fake:
        yield fake


@pytest.fixture
def served(settings, server, tmp_path):
    return settings.with_values(
        {
            "embedding.model": "ollama:tiny",
            "servers.ollama_url": server.url,
            "servers.path": tmp_path / "servers",
            "servers.batch_size": 8,
        }
    )


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    for n in range(40):
        (folder / f"{n}.md").write_text(f"# Note {n}\n\nSomething about subject number {n}.")
    return folder


def is_right(memory):
    """Return whether every stored vector is that of its text, and how many there are."""
    rows = memory.store.catalog.rows(
        "SELECT c.text, v.vector FROM vectors v JOIN chunks c ON c.id = v.item "
        "WHERE v.collection_id = (SELECT id FROM collections WHERE name = 'documents')"
    )
    made = [np.frombuffer(blob, dtype="<f4") for _, blob in rows]
    expected = [np.asarray(word_vector(text), dtype=np.float32) for text, _ in rows]
    return len(rows), all(np.abs(a - b).max() < 1e-6 for a, b in zip(made, expected, strict=True))


def pending(memory):
    return memory.status()["store"]["documents"]["pending"]


def test_while_the_server_is_down_texts_wait_and_keywords_answer(served, server, docs):
    with Memory(settings=served) as memory:
        memory.warm()
    server.stop()
    with Memory(settings=served) as memory:
        report = memory.ingest(docs)
        assert (report.added, report.pending, report.embedded, report.failed) == (40, 40, 0, 0)
        assert "ollama serve" in report.degraded
        hits = memory.search("subject number 17")
        assert "number 17" in hits[0].text
        assert "only keywords were searched" in hits.degraded
        assert hits[0].score is None
        with pytest.raises(ModelServerError, match="ollama serve"):
            memory.search("subject", mode="vector")
    server.start()
    with Memory(settings=served) as memory:
        report = memory.ingest(docs)
        assert (report.pending, report.embedded, report.unchanged, report.degraded) == (0, 40, 40, None)
        assert is_right(memory) == (40, True)
        hits = memory.search("subject number 17")
        assert hits.degraded is None
        assert hits[0].score > 0.3


def test_a_server_that_dies_in_the_middle_loses_nothing(served, server, docs):
    server.faults.extend([None] * 7)  # the model is met in four requests, 21 texts follow in three
    server.fault_rate, server.fault_names = 1.0, ("reset",)
    with Memory(settings=served) as memory:
        report = memory.ingest(docs)
        assert (report.added, report.embedded, report.pending) == (40, 21, 19)
        assert is_right(memory) == (21, True)
        server.fault_rate = 0.0
        report = memory.ingest(docs)
        assert (report.embedded, report.pending) == (19, 0)
        assert is_right(memory) == (40, True)


def test_one_bad_text_waits_for_nobody_and_is_found_by_its_words(served, server, docs):
    server.models["tiny:latest"].refuses["number 23"] = (400, "unsupported value: NaN")
    with Memory(settings=served) as memory:
        report = memory.ingest(docs)
        assert (report.added, report.embedded, report.pending) == (40, 39, 0)
        assert is_right(memory) == (39, True)
        assert "23" in memory.search("number 23", mode="keyword")[0].text
        asked = len(server.bodies("/api/embed"))
        memory.ingest(docs)
        assert len(server.bodies("/api/embed")) == asked
        reasons = memory.store.catalog.rows("SELECT unembeddable FROM chunks WHERE unembeddable IS NOT NULL")
        assert "NaN" in reasons[0][0]


def test_another_model_under_the_name_is_refused_and_the_store_stays_as_it_is(served, server, docs):
    with Memory(settings=served) as memory:
        memory.ingest(docs)
    was, server.models["tiny:latest"] = server.models["tiny:latest"], FakeModel(salt="new", digest="b" * 64)
    with Memory(settings=served) as memory:
        memory.add("a new note")
        assert pending(memory) == 1
        assert "not the model it was" in memory.search("subject 4").degraded
        assert is_right(memory) == (40, True)
    with pytest.raises(SpaceMismatchError, match="ollama:tiny"):
        Memory(settings=served)
    other = served.with_values({"store.path": served.store.path / "other"})
    with Memory(settings=other) as memory:
        memory.add("a note of its own")
        assert pending(memory) == 0
        server.models["tiny:latest"] = was
        memory.add("the former model is back")
        assert pending(memory) == 1
    with Memory(settings=served) as memory:
        memory.add("another note")
        assert pending(memory) == 0
        assert is_right(memory) == (42, True)


def test_the_index_holds_what_the_server_made(served, server, docs):
    indexed = served.with_values({"index.enabled": True, "search.exact_rows": 0})
    with Memory(settings=indexed) as memory:
        memory.ingest(docs)
        assert memory.warm() is None
        found = memory.search("subject number 5", mode="vector", kind="documents", explain=True)
        assert found.explain["kinds"]["documents"]["answered_by"] == "chroma"
        assert found[0].text.startswith("# Note 5")


def test_commands_are_redacted_before_a_server_sees_them(served, server, tmp_path):
    history = tmp_path / "history"
    history.write_text("git status\nmysql -u root -phunter2 shop\n")
    with Memory(settings=served) as memory:
        memory.ingest_history(history, shell="bash")
        memory.search("clone https://ada:hunter2@example.com/repository")
    sent = json.dumps([asked.body for asked in server.asked])
    assert "git status" in sent
    assert "hunter2" not in sent


def run(settings, *words):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMNIMEMORY_STORE": str(settings.store.path),
        "OMNIMEMORY_CACHE_PATH": str(settings.cache.path),
        "OMNIMEMORY_INDEX_ENABLED": "false",
        "OMNIMEMORY_EMBEDDING_MODEL": settings.embedding.model,
        "OMNIMEMORY_SERVERS_PATH": str(settings.servers.path),
        "OLLAMA_HOST": settings.servers.ollama_url,
    }
    return subprocess.run(
        [sys.executable, "-m", "omnimemory", *words], env=environment, capture_output=True, text=True, check=False
    )


def test_on_the_command_line(served, server, docs):
    server.stop()
    never_met = run(served, "add", "a note")
    assert (never_met.returncode, never_met.stdout) == (69, "")
    assert "ollama serve" in never_met.stderr
    server.start()
    assert run(served, "ingest", str(docs)).returncode == 0
    server.stop()
    degraded = run(served, "search", "note 7")
    assert degraded.returncode == 0, degraded.stderr
    assert "only keywords were searched" in degraded.stderr + degraded.stdout
    assert run(served, "search", "note", "--mode", "vector").returncode == 69
