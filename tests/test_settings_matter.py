"""Every setting changes something: for each there is a test here that fails when the setting is ignored."""

import sqlite3
import threading
import time

import pytest
from settings_cases import TESTED, matters

from omnimemory.config import SPECS
from omnimemory.embedders.static import StaticEmbedder
from omnimemory.errors import ConfigError
from omnimemory.memory import Memory


def test_every_setting_has_a_test_here():
    import test_memory_settings_matter  # noqa: F401 - registers its tests
    import test_model_settings_matter  # noqa: F401 - as above
    import test_residency  # noqa: F401 - as above
    import test_resident_ollama  # noqa: F401 - as above
    import test_schedule_settings_matter  # noqa: F401 - as above
    import test_server_settings_matter  # noqa: F401 - as above
    import test_warming  # noqa: F401 - as above

    assert TESTED.keys() == SPECS.keys()


def chunks(memory) -> list[str]:
    return [text for (text,) in memory.store.catalog.rows("SELECT text FROM chunks ORDER BY id")]


def ingested(settings, path, **values):
    changed = settings.with_values({key.replace("__", "."): value for key, value in values.items()})
    with Memory(settings=changed) as memory:
        report = memory.ingest(path)
        return sorted(chunks(memory)), report


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "docs"
    (root / "one" / "two").mkdir(parents=True)
    (root / ".gitignore").write_text("ignored.md\n")
    for name, text in {
        "top.md": "top",
        "ignored.md": "ignored",
        ".hidden.md": "hidden",
        "notes.txt": "plain",
        "one/middle.md": "middle",
        "one/two/deep.md": "deep",
        "large.md": "large " * 100,
    }.items():
        (root / name).write_text(text)
    return root


@matters("store.path")
def test_the_store_is_where_the_setting_says(settings, tmp_path):
    with Memory(settings=settings.with_values({"store.path": tmp_path / "elsewhere"})):
        assert (tmp_path / "elsewhere" / "catalog.sqlite3").is_file()


@matters("embedding.model")
def test_an_unknown_model_is_refused(settings):
    with pytest.raises(ConfigError, match="no-such-model"):
        Memory(settings=settings.with_values({"embedding.model": "no-such-model"}))


@matters("embedding.dim")
def test_the_dimension_of_the_vectors(settings):
    with Memory(settings=settings.with_values({"embedding.dim": 64})) as memory:
        assert memory.embeddings.embed_text("x").shape == (64,)


@matters("embedding.batch_size")
def test_the_most_texts_the_embedder_gets_at_once(settings):
    with Memory(settings=settings.with_values({"embedding.batch_size": 7})) as memory:
        memory.embeddings.embed_batch([f"text {n}" for n in range(20)])
        assert [decision.items for decision in memory.scheduler.log()] == [7, 7, 6]


@matters("cache.enabled")
def test_a_cache_that_is_switched_off_leaves_no_trace(settings):
    with Memory(settings=settings.with_values({"cache.enabled": False})) as memory:
        memory.add("a note")
        assert not settings.cache.path.exists()
        with pytest.raises(ConfigError, match="switched off"):
            _ = memory.cache


@matters("cache.path")
def test_the_cache_is_where_the_setting_says(settings, tmp_path):
    with Memory(settings=settings.with_values({"cache.path": tmp_path / "vectors"})) as memory:
        memory.add("a note")
        assert any((tmp_path / "vectors").iterdir())


@matters("cache.size_limit")
def test_old_vectors_go_when_the_cache_is_full(settings):
    with Memory(settings=settings.with_values({"cache.size_limit": "1MiB", "embedding.batch_size": 100})) as memory:
        memory.embeddings.embed_batch([f"text {n}" for n in range(3000)])
        assert memory.cache.stats()["items"] < 1500


@matters("cache.hot_items")
@pytest.mark.parametrize(("hot_items", "hits"), [(0, 0), (100, 1)])
def test_vectors_kept_in_memory(settings, hot_items, hits):
    with Memory(settings=settings.with_values({"cache.hot_items": hot_items})) as memory:
        for _ in range(2):
            memory.embeddings.embed_text("a text")
        assert memory.cache.stats()["hot_hits"] == hits


@matters("chunking.size")
def test_the_size_of_chunks(settings, tmp_path):
    file = tmp_path / "long.txt"
    file.write_text("\n\n".join(f"Paragraph {n} has a few words about topic {n}." for n in range(200)))
    small, _ = ingested(settings, file, chunking__size=32, chunking__overlap=0)
    large, _ = ingested(settings, file, chunking__size=512, chunking__overlap=0)
    assert len(small) > 4 * len(large)


@matters("chunking.overlap")
def test_the_overlap_of_chunks(settings, tmp_path):
    file = tmp_path / "long.txt"
    file.write_text("\n\n".join(f"Paragraph {n} has a few words about topic {n}." for n in range(200)))
    none, _ = ingested(settings, file, chunking__size=64, chunking__overlap=0)
    some, _ = ingested(settings, file, chunking__size=64, chunking__overlap=24)
    assert sum(map(len, none)) <= len(file.read_text())
    assert sum(map(len, some)) > 1.1 * len(file.read_text())


@matters("documents.max_bytes")
def test_larger_files_are_skipped(settings, folder):
    texts, report = ingested(settings, folder, documents__max_bytes=100)
    assert not [text for text in texts if text.startswith("large")]
    assert any("large.md" in failure.source for failure in report.failures)


@matters("documents.max_depth")
def test_deeper_folders_are_skipped(settings, folder):
    texts, _ = ingested(settings, folder, documents__max_depth=1)
    assert "middle" in texts
    assert "deep" not in texts


@matters("documents.hidden")
def test_hidden_files_are_read_when_asked(settings, folder):
    assert "hidden" not in ingested(settings, folder)[0]
    assert "hidden" in ingested(settings, folder, documents__hidden=True)[0]


@matters("documents.gitignore")
def test_gitignore_can_be_switched_off(settings, folder):
    assert "ignored" not in ingested(settings, folder)[0]
    assert "ignored" in ingested(settings, folder, documents__gitignore=False)[0]


@matters("documents.include")
def test_only_included_files_are_read(settings, folder):
    assert ingested(settings, folder, documents__include=("*.txt",))[0] == ["plain"]


@matters("documents.exclude")
def test_excluded_files_are_not_read(settings, folder):
    texts, _ = ingested(settings, folder, documents__exclude=("one/",))
    assert "top" in texts
    assert not {"middle", "deep"} & set(texts)


@matters("history.keep_secrets")
def test_secrets_are_kept_only_when_asked(settings, tmp_path):
    path = tmp_path / "history"
    path.write_text("mysql -u root -phunter2 shop\n")
    with Memory(settings=settings.with_values({"history.keep_secrets": True})) as memory:
        memory.ingest_history(path, shell="bash")
        assert memory.search("mysql", kind="commands")[0].text == "mysql -u root -phunter2 shop"


@matters("history.session_gap")
def test_a_longer_pause_ends_a_session(settings, tmp_path):
    path = tmp_path / "history"
    path.write_text("".join(f": {1_700_000_000 + place * 600}:0;{text}\n" for place, text in enumerate(["a", "b"] * 3)))
    reasons = []
    for gap in (300.0, 900.0):
        values = {"history.session_gap": gap, "store.path": tmp_path / str(gap)}
        with Memory(settings=settings.with_values(values)) as memory:
            memory.ingest_history(path, shell="zsh")
            reasons.append(memory.next_command(["a"], k=1)[0].why)
    assert "after `a`" not in reasons[0]
    assert reasons[1] == "seen 3 times after `a`"


@matters("history.sequence_decay")
def test_how_much_an_older_command_counts_is_a_setting(settings):
    made = []
    for decay in (0.0, 3.0):
        with Memory(settings=settings.with_values({"history.sequence_decay": decay})) as memory:
            found = memory.embeddings.embed_command_sequence(["git push", "make test"])
            made.append(found.command_embeddings @ found.sequence_embedding)
    assert abs(made[0][0] - made[0][1]) < 1e-5
    assert made[1][1] > made[1][0] + 0.1


@matters("history.steps")
def test_how_many_steps_are_kept_as_vectors_is_a_setting(settings, tmp_path):
    (tmp_path / "history").write_text("".join(f": {1_700_000_000 + at}:0;echo {at}\n" for at in range(20)))
    with Memory(settings=settings.with_values({"history.steps": 3})) as memory:
        memory.ingest_history(tmp_path / "history", shell="zsh")
        rows = memory.store.catalog.rows("SELECT c.text FROM transitions t JOIN commands c ON c.id = t.after")
        assert rows == [("echo 17",), ("echo 18",), ("echo 19",)]
        assert memory.store.catalog.value("SELECT count(*) FROM sequences") == 3


@matters("history.keep_days")
def test_after_how_long_executions_are_forgotten_is_a_setting(settings):
    when = time.time() - 5 * 86_400
    for days, left in ((10.0, 1), (None, 1), (1.0, 0)):
        with Memory(settings=settings.with_values({"history.keep_days": days})) as memory:
            memory.record("make test", timestamp=when)
            memory.maintain()
            assert memory.store.catalog.value("SELECT count(*) FROM events") == left


@matters("redaction.deny")
def test_what_is_denied_is_not_stored(settings):
    with Memory(settings=settings.with_values({"redaction.deny": ["/ACME-[0-9]+/"]})) as memory:
        memory.add("the number is ACME-12")
        assert chunks(memory) == ["the number is [REDACTED:own]"]


@matters("redaction.allow")
def test_what_is_allowed_is_stored(settings, tmp_path):
    path = tmp_path / "history"
    path.write_text("mysql -u root -phunter2 shop\n")
    with Memory(settings=settings.with_values({"redaction.allow": ["/hunter[0-9]/"]})) as memory:
        memory.ingest_history(path, shell="bash")
        assert memory.search("mysql", kind="commands")[0].text == "mysql -u root -phunter2 shop"


@matters("index.enabled")
def test_an_index_that_is_switched_off_is_not_made(settings):
    with Memory(settings=settings) as memory:
        memory.add([f"note {n}" for n in range(600)])
        assert memory.store.drain() is None
        assert "switched off" in memory.warm()
    assert not (settings.store.path / "index").exists()


@matters("index.documents")
def test_texts_stay_out_of_the_index_when_asked(indexed):
    with Memory(settings=indexed.with_values({"index.documents": False})) as memory:
        memory.add("a very uncommon sentence")
        assert memory.store.drain() is None
        assert memory.search("uncommon")[0].text == "a very uncommon sentence"
    database = sqlite3.connect(indexed.store.path / "index" / "1" / "chroma.sqlite3")
    assert database.execute("SELECT count(*) FROM embeddings").fetchone() == (1,)
    assert database.execute("SELECT count(*) FROM embedding_fulltext_search").fetchone() == (0,)
    database.close()


@matters("index.wait")
@pytest.mark.parametrize("wait", [True, False])
def test_whether_an_ingest_waits_for_the_index(indexed, tmp_path, wait):
    (tmp_path / "note.md").write_text("a note")
    with Memory(settings=indexed.with_values({"index.wait": wait})) as memory:
        memory.ingest(tmp_path / "note.md")
        assert memory.search("note")[0].text == "a note"
        assert memory.store.generations.waiting() == (0 if wait else 1)


@matters("index.batch_size")
@pytest.mark.parametrize("size", [50, 5000])
def test_rows_added_to_the_index_at_once(indexed, size):
    with Memory(settings=indexed.with_values({"index.batch_size": size})) as memory:
        assert memory.store.options.drain.batch_size == size
        memory.add([f"note {n}" for n in range(120)])
        assert memory.store.documents.payload(0, memory.store.options.drain.batch_size).row == min(size, 120)


@matters("index.ef_search")
def test_how_far_a_query_looks_is_stored_with_the_index(indexed):
    with Memory(settings=indexed.with_values({"index.ef_search": 321})) as memory:
        memory.add("a note")
        assert memory.store.drain() is None
    database = sqlite3.connect(indexed.store.path / "index" / "1" / "chroma.sqlite3")
    assert any("321" in str(row) for row in database.execute("SELECT config_json_str, schema_str FROM collections"))
    database.close()


@matters("index.idle_seconds")
def test_an_idle_index_gives_its_lock_back(indexed):
    with Memory(settings=indexed.with_values({"index.idle_seconds": 0})) as memory:
        memory.add("a note")
        assert memory.warm() is None
        deadline = time.monotonic() + 30
        while memory.status()["store"]["index"]["open"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@matters("search.k")
def test_how_many_hits_there_are(settings):
    with Memory(settings=settings.with_values({"search.k": 3})) as memory:
        memory.add([f"note {n}" for n in range(9)])
        assert len(memory.search("note")) == 3


@matters("search.mode")
def test_what_is_compared(settings):
    with Memory(settings=settings.with_values({"search.mode": "keyword"})) as memory:
        memory.add("note")
        assert memory.search("note")[0].ranks == {"keyword": 1}


@matters("search.exact_rows")
def test_from_how_many_rows_on_the_index_answers(indexed):
    with Memory(settings=indexed.with_values({"search.exact_rows": 5})) as memory:
        memory.add([f"note {n}" for n in range(6)])
        assert memory.warm() is None
        explained = memory.search("note", kind="documents", explain=True).explain
        assert explained["kinds"]["documents"]["answered_by"] == "chroma"


@matters("search.model_seconds")
def test_how_long_a_hybrid_search_waits_for_the_model(settings):
    may = threading.Event()

    class Loading(StaticEmbedder):
        def embed(self, texts, role):
            assert role == "document" or may.wait(60)
            return super().embed(texts, role)

    with Memory(settings=settings.with_values({"search.model_seconds": 0.01}), embedder=Loading()) as memory:
        memory.add("note")
        assert "search.model_seconds" in memory.search("note").degraded
        may.set()


@matters("search.weight")
def test_the_share_of_the_vector_score(settings):
    texts = ["git: a tool", "git git git", "a way to track the versions of source code"]
    for weight, first in ((0.0, "git git git"), (1.0, None)):
        with Memory(settings=settings.with_values({"search.weight": weight})) as memory:
            memory.add(texts)
            hits = memory.search("git", kind="documents", explain=True)
            assert hits.explain["kinds"]["documents"]["vector_weight"] == weight
            best = first or memory.search("git", kind="documents", mode="vector")[0].text
            assert hits[0].text == best
