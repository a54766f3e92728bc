"""The Memory object as its users meet it: ingest, search, forget nothing, tell what was done."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from zlib import crc32

import numpy as np
import pytest

from omnimemory.embedders.static import StaticEmbedder
from omnimemory.errors import ConfigError, EmbedderError, InvalidVectorError, MemoryBudgetError, StoreError
from omnimemory.memory import Memory
from omnimemory.records import Progress
from omnimemory.storage import drainer

BASH = "cd api\ngit status\nmake test\ngit commit -am 'fix login'\ngit status\n"


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "deploy.md").write_text(
        "# Deploy\n\nRun the release script, then watch the error rate for ten minutes.\n"
    )
    (folder / "cooking.md").write_text("# Bread\n\nKnead the dough, let it rise overnight and bake it in a hot oven.\n")
    (folder / "backup.md").write_text("# Backups\n\nThe database is dumped every night and kept for thirty days.\n")
    return folder


@pytest.fixture
def history(tmp_path):
    path = tmp_path / ".bash_history"
    path.write_text(BASH)
    return path


def test_documents_are_found_by_meaning_and_carry_where_they_stand(memory, docs):
    report = memory.ingest(docs)
    assert (report.added, report.embedded, report.failed, report.sources) == (3, 3, 0, 3)
    hit = memory.search("how do we ship a new version to production?", mode="vector")[0]
    assert hit.source == (docs / "deploy.md").resolve().as_posix()
    text = (docs / "deploy.md").read_text()
    assert text[hit.start : hit.end] == hit.text
    assert hit.kind == "documents"
    assert hit.metadata["heading"] == "Deploy"
    assert -1 <= hit.score <= 1
    assert hit.distance == pytest.approx(1 - hit.score)


class HashEmbedder(StaticEmbedder):
    """Vectors that mean nothing: what the quality tests must be able to tell from a model."""

    def embed(self, texts, role):
        rows = [np.random.default_rng(crc32(text.encode())).normal(size=self.dim) for text in texts]
        return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32)


QUESTIONS = {
    "erase a directory and everything in it": "rm -rf build/",
    "which process is listening on a network port": "lsof -i :8080",
    "show the history of changes to the source code": "git log --oneline",
    "pack files into a compressed archive": "tar czf backup.tar.gz documents/",
    "list running containers": "docker ps",
    "install a python library": "pip install requests",
    "search for a word in all files": "grep -rn password .",
    "copy files to another computer": "scp report.pdf server:/tmp",
}


def reciprocal_ranks(memory, tmp_path):
    path = tmp_path / "history"
    path.write_text("\n".join(QUESTIONS.values()) + "\n")
    memory.ingest_history(path, shell="bash")
    ranks = []
    for question, command in QUESTIONS.items():
        texts = [hit.text for hit in memory.search(question, k=8, kind="commands", mode="vector")]
        ranks.append(1 / (texts.index(command) + 1))
    return float(np.mean(ranks))


def test_commands_are_found_by_what_they_do(memory, tmp_path):
    assert reciprocal_ranks(memory, tmp_path) >= 0.7


def test_the_quality_test_fails_for_vectors_without_meaning(settings, tmp_path):
    settings = settings.with_values({"cache.enabled": False})
    with Memory(settings=settings, embedder=HashEmbedder()) as memory:
        assert reciprocal_ranks(memory, tmp_path) < 0.6


def test_history_is_commands_once_and_events_always(memory, history):
    report = memory.ingest_history(history)
    assert (report.added, report.events, report.embedded) == (4, 5, 4)
    hit = memory.search("git status", kind="commands")[0]
    assert hit.text == "git status"
    assert hit.metadata["count"] == 2
    assert hit.metadata["shell"] == "bash"


def test_a_grown_history_adds_only_what_is_new(memory, history):
    memory.ingest_history(history)
    unchanged = memory.ingest_history(history)
    assert (unchanged.events, unchanged.added, unchanged.embedded, unchanged.cache_hits) == (0, 0, 0, 0)
    with history.open("a") as file:
        file.write("git status\nmake deploy\n")
    grown = memory.ingest_history(history)
    assert (grown.events, grown.added, grown.embedded) == (2, 1, 1)
    assert memory.search("git status", kind="commands")[0].metadata["count"] == 3


def test_a_line_that_was_half_written_is_replaced_not_doubled(memory, history):
    history.write_text(BASH + "make dep")
    memory.ingest_history(history)
    history.write_text(BASH + "make deploy\nls\n")
    memory.ingest_history(history)
    events = [
        text
        for (text,) in memory.store.catalog.rows(
            "SELECT c.text FROM events e JOIN commands c ON c.id = e.command_row ORDER BY e.position"
        )
    ]
    assert events == [*BASH.splitlines(), "make deploy", "ls"]


@pytest.mark.parametrize("stamped", [True, False], ids=["with-times", "without-times"])
def test_a_trimmed_history_makes_no_duplicates(memory, tmp_path, stamped):
    def lines(first, last):
        return "".join((f"#{1_700_000_000 + n}\n" if stamped else "") + f"command {n}\n" for n in range(first, last))

    path = tmp_path / "history"
    path.write_text(lines(0, 50))
    memory.ingest_history(path, shell="bash")
    path.write_text(lines(20, 60))
    report = memory.ingest_history(path, shell="bash")
    assert report.events == 10
    assert memory.status()["store"]["commands"]["events"] == 60
    with path.open("a") as file:
        file.write(lines(60, 62))
    assert memory.ingest_history(path, shell="bash").events == 2


def test_a_copy_of_a_history_with_times_adds_no_events(memory, tmp_path):
    text = "".join(f": {1_700_000_000 + n // 2}:0;command {n % 7}\n" for n in range(40))
    for name in ("one", "two"):
        (tmp_path / name).write_text(text)
    assert memory.ingest_history(tmp_path / "one", shell="zsh").events == 40
    assert memory.ingest_history(tmp_path / "two", shell="zsh").events == 0


def test_the_same_command_twice_within_a_second_is_two_events_across_reads(memory, tmp_path):
    path = tmp_path / "history"
    path.write_text(": 1700000000:0;ls\n")
    memory.ingest_history(path, shell="zsh")
    with path.open("a") as file:
        file.write(": 1700000000:0;ls\n")
    assert memory.ingest_history(path, shell="zsh").events == 1
    assert memory.status()["store"]["commands"]["events"] == 2


def test_secrets_never_reach_store_cache_or_vectors(indexed, tmp_path):
    path, doc = tmp_path / "history", tmp_path / "notes.md"
    secret = "hunter2" + "-" + "correct-horse"
    token = "ghp_" + "a1B2" * 9
    path.write_text(f"mysql -u root -p{secret} shop\nexport GITHUB_TOKEN={token}\n")
    doc.write_text(f"The old token was {token}, do not use it.\n")
    with Memory(settings=indexed) as memory:
        report = memory.ingest_history(path, shell="bash")
        assert report.redacted == 2
        assert memory.ingest(doc).redacted == 1
        memory.add(f"note with {token}")
        memory.search(f"find {token}")
        texts = [hit.text for hit in memory.search("mysql shop", kind="commands")]
        assert any(text.startswith("mysql -u root -p[REDACTED:") and text.endswith("shop") for text in texts)
    for folder in (indexed.store.path, indexed.cache.path):
        for file in folder.rglob("*"):
            if file.is_file():
                content = file.read_bytes()
                assert secret.encode() not in content, file
                assert token.encode() not in content, file


def test_keep_secrets_is_explicit(settings, tmp_path):
    path = tmp_path / "history"
    path.write_text("mysql -u root -phunter2 shop\n")
    with Memory(settings=settings.with_values({"history.keep_secrets": True})) as memory:
        assert memory.ingest_history(path, shell="bash").redacted == 0
        assert memory.search("mysql", kind="commands")[0].text == "mysql -u root -phunter2 shop"


def test_an_empty_store_and_an_empty_question_find_nothing(memory):
    assert memory.search("anything") == []
    memory.add("a note")
    assert memory.search("") == []
    assert memory.search("   ") == []


def test_filters_are_pushed_down_for_every_mode(memory):
    numbers = range(60)
    memory.add([f"note {n} about bread" for n in numbers], metadatas=[{"n": n, "even": n % 2 == 0} for n in numbers])
    for mode in ("vector", "keyword", "hybrid"):
        hits = memory.search("bread", mode=mode, where={"n": {"$gte": 50}, "even": True}, k=50)
        assert sorted(hit.metadata["n"] for hit in hits) == [50, 52, 54, 56, 58], mode
    with pytest.raises(ConfigError, match=r"\$near"):
        memory.search("bread", where={"n": {"$near": 3}})


def test_commands_can_be_filtered_by_where_and_when_they_ran(memory, tmp_path):
    path = tmp_path / "history"
    path.write_text(": 1700000000:3;make test\n: 1700000100:0;make deploy\n: 1700000200:0;make test\n")
    memory.ingest_history(path)
    assert [h.text for h in memory.search("make", where={"count": {"$gte": 2}}, kind="commands")] == ["make test"]
    early = memory.search("make", where={"last": {"$lt": 1700000150}}, kind="commands")
    assert [hit.text for hit in early] == ["make deploy"]
    assert len(memory.search("make", where={"shell": "zsh"}, kind="commands")) == 2


def test_min_score_is_a_cosine(memory):
    memory.add(["git revert HEAD", "sourdough bread"])
    everything = memory.search("undo the last git commit", mode="vector")
    least = everything[0].score - 0.001
    assert [hit.text for hit in memory.search("undo the last git commit", min_score=least)] == [everything[0].text]
    with pytest.raises(ConfigError, match="cosine"):
        memory.search("git", mode="keyword", min_score=0.1)


def test_a_vector_can_be_the_question(memory):
    memory.add(["git revert HEAD", "sourdough bread"])
    vector = memory.embeddings.embed_text("baking", "query")
    assert memory.search(vector=vector * 3, k=1)[0].text == "sourdough bread"
    with pytest.raises(InvalidVectorError, match="256"):
        memory.search(vector=np.ones(3))
    with pytest.raises(InvalidVectorError, match="256"):
        memory.search(vector=np.zeros(256))


def test_keyword_search_needs_no_vectors_and_says_so(memory):
    memory.add("the quick brown fox")
    hit = memory.search("fox", mode="keyword")[0]
    assert hit.score is None
    assert hit.ranks == {"keyword": 1}


def test_explain_tells_who_answered_and_why(memory):
    memory.add("the quick brown fox")
    details = memory.search("fox", kind="documents", explain=True).explain
    assert details["kinds"]["documents"]["answered_by"] == "exact"
    assert "1 vectors" in details["kinds"]["documents"]["reason"]
    assert 0 < details["kinds"]["documents"]["vector_weight"] < 1
    assert json.dumps(details)


def test_index_and_exact_search_give_the_same_hits(indexed):
    texts = [f"note {n} about {word}" for n in range(40) for word in ("bread", "git", "backup", "network", "music")]
    with Memory(settings=indexed.with_values({"search.exact_rows": 0})) as memory:
        memory.add(texts)
        assert memory.warm() is None
        for question in ("baking", "version control", "restore the database"):
            index = memory.search(question, mode="vector", kind="documents", explain=True)
            exact = memory.search(question, mode="vector", kind="documents", where={"source": "notes"}, explain=True)
            assert index.explain["kinds"]["documents"]["answered_by"] == "chroma"
            assert exact.explain["kinds"]["documents"]["answered_by"] == "exact"
            assert [hit.score for hit in index] == pytest.approx([hit.score for hit in exact], abs=1e-5)


class Down(StaticEmbedder):
    """An embedder whose server is down."""

    def embed(self, texts, role):
        raise EmbedderError("the model server does not answer; start it and run again")


def test_search_without_a_model_answers_by_keyword_and_says_why(settings):
    settings = settings.with_values({"cache.enabled": False})
    with Memory(settings=settings, embedder=Down()) as memory:
        memory.add("the quick brown fox")
        assert memory.status()["store"]["documents"]["pending"] == 1
        hits = memory.search("fox")
        assert [hit.text for hit in hits] == ["the quick brown fox"]
        assert "does not answer" in hits.degraded
        with pytest.raises(EmbedderError, match="does not answer"):
            memory.search("fox", mode="vector")
    with Memory(settings=settings) as memory:
        memory.add("another note")
        assert memory.status()["store"]["documents"]["pending"] == 0
        assert len(memory.search("fox", mode="vector")) == 2


def test_no_memory_leaves_the_text_pending_and_says_what_to_do(settings, docs):
    tight = settings.with_values({"memory.max_bytes": 1})
    with Memory(settings=tight) as memory:
        report = memory.ingest(docs)
        assert report.pending == 3
        assert "memory.max_bytes" in report.degraded
        with pytest.raises(MemoryBudgetError):
            memory.embeddings.embed_text("x")
    with Memory(settings=settings) as memory:
        assert memory.ingest(docs).embedded == 3


def test_every_batch_is_a_decision_of_the_scheduler(settings):
    with Memory(settings=settings.with_values({"embedding.batch_size": 10, "cache.enabled": False})) as memory:
        memory.embeddings.embed_batch([f"text {n}" for n in range(35)])
        assert [decision.items for decision in memory.scheduler.log()] == [10, 10, 10, 5]


def test_a_dry_run_tells_and_changes_nothing(memory, docs):
    assert memory.ingest(docs, dry_run=True).added == 3
    assert memory.status()["store"]["documents"] == {"sources": 0, "chunks": 0, "pending": 0}
    memory.ingest(docs)
    (docs / "cooking.md").unlink()
    assert memory.ingest(docs, dry_run=True).deleted == 1
    assert memory.status()["store"]["documents"]["chunks"] == 3


def test_progress_is_told_and_ends_at_its_total(memory, docs):
    seen: list[Progress] = []
    memory.ingest(docs, progress=seen.append)
    documents = [step for step in seen if step.stage == "documents"]
    assert documents[-1].done == documents[-1].total == 3


def test_progress_of_the_index_is_told_until_it_holds_everything(indexed, docs, monkeypatch):
    monkeypatch.setattr(drainer, "_TICK_SECONDS", 0.01)
    seen: list[Progress] = []
    with Memory(settings=indexed) as memory:
        memory.ingest(docs, progress=seen.append)
    steps = [step for step in seen if step.stage == "index"]
    assert (steps[0].done, steps[0].total) == (0, 3)
    assert steps[-1].done == steps[-1].total
    assert len(steps) > 2  # the child process takes longer than two ticks to start


def test_one_changed_paragraph_embeds_only_its_chunks(memory, tmp_path):
    from test_peers import handbook

    file = tmp_path / "handbook.txt"
    text = handbook(400)
    file.write_text(text)
    first = memory.ingest(file)
    assert first.added >= 100
    middle = text.index("Section 200 ")
    file.write_text(text[:middle] + "A new sentence was put here by somebody. " + text[middle:])
    second = memory.ingest(file)
    assert 1 <= second.embedded <= 4
    assert second.updated >= 40  # everything behind it moved, and kept its id
    for hit in memory.search("section 390", k=3):
        assert file.read_text()[hit.start : hit.end] == hit.text


def test_two_memories_of_one_store_in_a_process_share_it(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Memory(settings=settings) as one, Memory("store", settings=settings) as two:
        assert one.store is two.store
        one.add("shared note")
        assert two.search("note")[0].text == "shared note"
    with pytest.raises(StoreError, match="closed"):
        one.search("note")


def test_threads_may_add_and_search_at_once(memory):
    def work(number):
        for n in range(10):
            memory.add(f"thread {number} note {n}")
            assert memory.search(f"thread {number} note {n}", k=1)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert memory.status()["store"]["documents"]["chunks"] == 60


def test_everything_on_disk_is_private(indexed, docs):
    before = os.umask(0o022)
    try:
        with Memory(settings=indexed) as memory:
            memory.ingest(docs)
            memory.warm()
    finally:
        os.umask(before)
    for folder in (indexed.store.path, indexed.cache.path):
        for path in (folder, *folder.rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path


def test_add_refuses_what_it_cannot_keep(memory):
    with pytest.raises(ConfigError, match="empty"):
        memory.add("  ")
    with pytest.raises(ConfigError, match="2 texts came with 1 ids"):
        memory.add(["a", "b"], ids=["x"])
    with pytest.raises(ConfigError, match="id of text 0"):
        memory.add(["a"], ids=[""])
    with pytest.raises(ConfigError, match="keys"):
        memory.add(["a"], metadatas=[{1: 2}])
    assert memory.add([]) == []


def test_hits_and_reports_show_themselves_in_a_notebook(memory, docs):
    report = memory.ingest(docs)
    assert "<table>" in report._repr_html_()
    memory.add("<script>alert(1)</script> deploy")
    shown = memory.search("deploy")._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
