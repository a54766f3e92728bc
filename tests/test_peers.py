"""What was measured going wrong in other memories (LangChain, LlamaIndex, llm, plain Chroma), held against this one.

Each test names the fault it came from; see "Why not ..." in the README.
"""

import hashlib
import os

import chromadb
import numpy as np
import pytest

from omnimemory.embedders.static import StaticEmbedder
from omnimemory.errors import ConfigError, EmbedderError, SpaceMismatchError
from omnimemory.memory import Memory

PARAGRAPH = (
    "Section {n} of the handbook tells how team number {n} deploys service {m} to the cluster named {o}. "
    "It has a checklist with {n} steps, an owner called person{m}, and a pager rotation of {o} days. "
    "Whoever changes the service writes down what was changed, why it was changed and how to take it back, "
    "so that the next person on duty at step {n} does not have to guess what person{m} had in mind.\n\n"
)


def handbook(sections: int = 250) -> str:
    return "".join(PARAGRAPH.format(n=n, m=n * 7 % 1009, o=n * 13 % 997) for n in range(sections))


class Counting(StaticEmbedder):
    """The static model, counting the texts it is asked for; it can be told to fail."""

    def __init__(self, dim: int = 256) -> None:
        super().__init__(dim)
        self.texts: list[str] = []
        self.fail_after: int | None = None

    def embed(self, texts, role):
        if self.fail_after is not None and len(self.texts) + len(texts) > self.fail_after:
            raise EmbedderError("the model is down")
        self.texts.extend(texts)
        return super().embed(texts, role)


def opened(settings, embedder=None) -> Memory:
    return Memory(settings=settings, embedder=embedder or Counting())


def texts_of(memory) -> list[str]:
    return [text for (text,) in memory.store.catalog.rows("SELECT text FROM chunks ORDER BY id")]


def test_p1_an_unchanged_file_of_250_chunks_is_not_embedded_again(settings, tmp_path):
    (tmp_path / "handbook.md").write_text(handbook())
    with opened(settings) as memory:
        first = memory.ingest(tmp_path / "handbook.md")
        assert first.added >= 60
        again = memory.ingest(tmp_path / "handbook.md")
    assert (again.embedded, again.cache_hits, again.added, again.deleted) == (0, 0, 0, 0)
    assert again.unchanged == first.added


def test_p2_a_deleted_file_is_forgotten(settings, tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("one", "two", "three"):
        (folder / f"{name}.md").write_text(f"The file {name} speaks of {name}.")
    with opened(settings) as memory:
        memory.ingest(folder)
        (folder / "two.md").unlink()
        assert memory.ingest(folder).deleted == 1
        assert not [text for text in texts_of(memory) if "two" in text]


@pytest.mark.parametrize("how", ["emptied", "vanished"])
def test_p3_an_empty_or_vanished_folder_does_not_wipe_the_memory(settings, tmp_path, how):
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("one", "two", "three"):
        (folder / f"{name}.md").write_text(f"The file {name} speaks of {name}.")
    with opened(settings) as memory:
        memory.ingest(folder)
        for file in folder.iterdir():
            file.unlink()
        if how == "vanished":
            folder.rmdir()
        report = memory.ingest(folder)
        assert report.deleted == 0
        assert len(texts_of(memory)) == 3
        assert "--prune-all" in " ".join(failure.reason for failure in report.failures)
        assert memory.ingest(folder, prune_all=True).deleted == 3


def test_p4_a_touched_file_is_not_embedded_again(settings, tmp_path):
    file = tmp_path / "notes.md"
    file.write_text(handbook(20))
    with opened(settings) as memory:
        memory.ingest(file)
        os.utime(file, (1_700_000_000, 1_700_000_000))
        asked = len(memory.embeddings.embedder.texts)
        report = memory.ingest(file)
        assert len(memory.embeddings.embedder.texts) == asked
        assert (report.embedded, report.cache_hits, report.added, report.deleted) == (0, 0, 0, 0)


def test_p4_new_metadata_of_a_note_is_not_embedded_again(settings):
    with opened(settings) as memory:
        memory.add("The build runs at noon.", ids=["a"], metadatas=[{"topic": "ci"}])
        asked = len(memory.embeddings.embedder.texts)
        memory.add("The build runs at noon.", ids=["a"], metadatas=[{"topic": "builds"}])
        assert len(memory.embeddings.embedder.texts) == asked
        assert memory.search("build", where={"topic": "builds"})[0].id == "a"
        assert not memory.search("build", where={"topic": "ci"})


def test_p5_another_model_is_refused_not_mixed(settings):
    with opened(settings) as memory:
        memory.add("a note")
    with pytest.raises(SpaceMismatchError, match="wordllama"):
        opened(settings, Counting(128))


def test_p6_the_cache_never_serves_another_models_vector(settings, tmp_path):
    with opened(settings) as memory:
        memory.add("a note")
    other = settings.with_values({"store.path": tmp_path / "other"})
    with opened(other, Counting(128)) as memory:
        memory.add("a note")
        assert memory.embeddings.embedder.texts == ["a note"]
        assert memory.embeddings.embed_text("a note").shape == (128,)


def test_p7_equal_texts_in_one_call_are_embedded_once(settings):
    with opened(settings) as memory:
        vectors = memory.embeddings.embed_batch(["the same"] * 10)
        assert memory.embeddings.embedder.texts == ["the same"]
        assert vectors.shape == (10, 256)
        assert (vectors == vectors[0]).all()


def test_p8_the_cache_costs_at_most_a_quarter_more_than_the_raw_vectors(settings):
    with opened(settings) as memory:
        texts = [f"note number {n} about topic {n * 17 % 1003}" for n in range(5000)]
        memory.embeddings.embed_batch(texts)
    used = sum(file.stat().st_size for file in settings.cache.path.rglob("*") if file.is_file())
    assert used <= 1.25 * 5000 * 256 * 4


def test_p9_what_was_embedded_before_a_failure_is_not_embedded_again(settings):
    texts = [f"note number {n}" for n in range(1200)]
    embedder = Counting()
    embedder.fail_after = 1000
    with opened(settings.with_values({"embedding.batch_size": 100}), embedder) as memory:
        with pytest.raises(EmbedderError, match="down"):
            memory.embeddings.embed_batch(texts)
        assert len(embedder.texts) == 1000
        embedder.fail_after = None
        memory.embeddings.embed_batch(texts)
        assert len(embedder.texts) == 1200


def test_p10_of_two_files_with_equal_text_each_goes_with_its_file(settings, tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.md").write_text("The very same text." if name != "c" else "Something else.")
    with opened(settings) as memory:
        memory.ingest(folder)
        (folder / "a.md").unlink()
        memory.ingest(folder)
        assert sorted(texts_of(memory)) == ["Something else.", "The very same text."]
        (folder / "b.md").unlink()
        memory.ingest(folder)
        assert texts_of(memory) == ["Something else."]


def test_p11_a_file_whose_embedding_failed_is_embedded_by_the_next_run(settings, tmp_path):
    (tmp_path / "a.md").write_text("The service restarts at night.")
    embedder = Counting()
    embedder.fail_after = 0
    with opened(settings, embedder) as memory:
        report = memory.ingest(tmp_path / "a.md")
        assert (report.pending, report.embedded) == (1, 0)
        assert "down" in report.degraded
        hits = memory.search("restarts")
        assert hits[0].text == "The service restarts at night."
        assert "down" in hits.degraded
        embedder.fail_after = None
        again = memory.ingest(tmp_path / "a.md")
        assert (again.embedded, again.added) == (1, 0)
        assert memory.search("restarts").degraded is None
        assert memory.search("restarts", mode="vector")[0].score > 0.3


def test_p12_a_failed_update_keeps_something_to_find(settings, tmp_path):
    file = tmp_path / "a.md"
    file.write_text("The service restarts at night.")
    embedder = Counting()
    with opened(settings, embedder) as memory:
        memory.ingest(file)
        file.write_text("The service restarts at noon.")
        embedder.fail_after = len(embedder.texts)
        memory.ingest(file)
        assert [hit.text for hit in memory.search("service restarts")] == ["The service restarts at noon."]


def test_p13_one_changed_file_of_100_embeds_one(settings, tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    for n in range(100):
        (folder / f"{n}.md").write_text(f"Document number {n} is about subject {n * 31 % 211}.")
    with opened(settings) as memory:
        memory.ingest(folder)
        asked = len(memory.embeddings.embedder.texts)
        (folder / "7.md").write_text("Document number 7 was rewritten.")
        report = memory.ingest(folder)
        assert memory.embeddings.embedder.texts[asked:] == ["Document number 7 was rewritten."]
        assert (report.added, report.deleted, report.unchanged) == (1, 1, 99)


def test_p14_equal_text_in_two_files_keeps_both_sources(settings, tmp_path):
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text("The very same text.")
    with opened(settings) as memory:
        memory.ingest(tmp_path / "a.md", tmp_path / "b.md")
        hits = memory.search("very same text", kind="documents")
        assert sorted(hit.source.rsplit("/", 1)[-1] for hit in hits) == ["a.md", "b.md"]
        assert memory.embeddings.embedder.texts.count("The very same text.") == 1


def test_p15_swapping_texts_between_ids_stores_what_was_said(settings):
    with opened(settings) as memory:
        memory.add(["apple", "pear"], ids=["x", "y"])
        memory.add(["banana", "apple"], ids=["x", "y"])
        stored = dict(memory.store.catalog.rows("SELECT chunk_id, text FROM chunks"))
    assert stored == {"x": "banana", "y": "apple"}


def test_p16_one_text_under_two_ids_is_stored_twice_and_embedded_once(settings):
    with opened(settings) as memory:
        assert memory.add(["apple", "apple"], ids=["x", "y"]) == ["x", "y"]
        assert memory.embeddings.embedder.texts == ["apple"]
        assert {hit.id for hit in memory.search("apple", mode="vector")} == {"x", "y"}


def test_p17_hybrid_search_works_locally(settings):
    with opened(settings) as memory:
        memory.add(["ERR-4711 means the disk is full", "how to bake bread"], ids=["error", "bread"])
        hit = memory.search("ERR-4711")[0]
        assert hit.id == "error"
        assert hit.ranks == {"vector": 1, "keyword": 1}


@pytest.mark.slow
def test_p18_more_texts_than_chroma_takes_at_once(indexed):
    with opened(indexed) as memory:
        # Not by number: to the static model 123 and 321 are the same, and of such texts the index holds eight.
        memory.add([f"note {hashlib.md5(bytes([n % 256, n // 256])).hexdigest()}" for n in range(6000)])
        assert memory.store.drain() is None
        assert memory.store.generations.waiting() == 0
    folder = indexed.store.path / "index" / "1"
    client = chromadb.PersistentClient(str(folder))
    assert client.get_collection("documents", embedding_function=None).count() == 6000
    client.close()


def test_p19_adding_an_id_again_replaces_its_text(settings):
    with opened(settings) as memory:
        memory.add("the old text", ids=["a"])
        memory.add("the new words", ids=["a"])
        assert [hit.text for hit in memory.search("text words")] == ["the new words"]


def test_p19_scores_are_cosines(settings):
    with opened(settings) as memory:
        memory.add(["git revert", "sourdough bread"])
        for hit in memory.search("undo a commit", mode="vector"):
            vector = memory.embeddings.embed_text(hit.text)
            asked = memory.embeddings.embed_text("undo a commit", "query")
            assert hit.score == pytest.approx(float(np.dot(vector, asked)), abs=1e-5)
            assert hit.distance == pytest.approx(1 - hit.score)


def test_p19_metadata_that_chroma_refuses_is_stored_and_indexed(indexed):
    refused = {
        "empty": {},
        "none": {"a": None},
        "nested": {"nested": {"deep": [1, {"x": 2}]}},
        "nan": {"n": float("nan")},
        "huge": {"i": 2**70},
        "numpy": {"f": np.float32(1.5)},
        "mixed": {"l": [1, "a"]},
        "surrogate": {"s": "\ud800"},
    }
    with opened(indexed) as memory:
        memory.add([f"a note called {name}" for name in refused], ids=[*refused], metadatas=[*refused.values()])
        assert memory.store.drain() is None
        assert {hit.id for hit in memory.search("note", k=20)} == refused.keys()
        assert memory.search("note", where={"f": 1.5})[0].id == "numpy"


def test_p19_k_larger_than_the_store_and_k_of_zero(settings):
    with opened(settings) as memory:
        memory.add(["one", "two"])
        assert len(memory.search("one", k=1000, mode="vector")) == 2
        with pytest.raises(ConfigError, match="k must be"):
            memory.search("one", k=0)
