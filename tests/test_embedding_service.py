"""Text in, vectors out: what is asked of the model, under which lease, and what one bad text does to the others."""

import asyncio

import numpy as np
import pytest

from omnimemory.embedders.base import UnembeddableTextError
from omnimemory.embedders.static import StaticEmbedder
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import EmbedderError, InvalidVectorError, MemoryBudgetError
from omnimemory.memory import Memory
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.scheduler import Scheduler
from omnimemory.storage.cache import EmbeddingCache

MIB = 1 << 20


class Careful(StaticEmbedder):
    """The static model, which notes what it is asked, and fails on request."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.fails_on = ""
        self.spoils = ""

    def embed(self, texts, role):
        self.batches.append(list(texts))
        if self.fails_on and any(self.fails_on in text for text in texts):
            raise EmbedderError("the model server does not answer")
        unembeddable = [index for index, text in enumerate(texts) if "no vector" in text]
        if unembeddable:
            raise UnembeddableTextError("no vector for some", unembeddable)
        vectors = super().embed(texts, role)
        if self.spoils and any(self.spoils in text for text in texts):
            vectors[0, 0] = np.nan
        return vectors

    def footprint(self):
        return super().footprint()._replace(per_token=64)


class Others:
    """What others do meanwhile: told when to ``begin``, and given ``jobs``, which they leave to the test."""

    def __init__(self, begin=lambda: None) -> None:
        self.begin = begin
        self.jobs = []

    def later(self, job):
        self.jobs.append(job)


def service(embedder, free=4096 * MIB, batch_size=8) -> EmbeddingService:
    available = Available(free, "a test", 8192 * MIB, 0, ())
    scheduler = Scheduler(reserve=0, probe=lambda: available)
    return EmbeddingService(embedder, cache=None, scheduler=scheduler, batch_size=batch_size)


def test_vectors_come_in_the_order_of_the_texts():
    texts = [f"{'long ' * (n * 7 % 11)}text {n}" for n in range(30)]
    embedder = Careful()
    found = service(embedder).embed_batch(texts)
    assert (found == StaticEmbedder().embed(texts, "document")).all()
    assert max(map(len, embedder.batches)) == 8


def test_equal_texts_are_asked_for_once_and_all_get_the_vector():
    embedder = Careful()
    found = service(embedder).embed_batch(["a b", "c d", "a b"])
    assert sorted(embedder.batches[0]) == ["a b", "c d"]
    assert (found[0] == found[2]).all()
    assert not (found[0] == found[1]).all()


def test_one_text_that_is_too_long_for_the_memory_does_not_keep_the_others_from_theirs():
    embedder = Careful()
    texts = ["short one", "long " * (2 * MIB), "short two", "another short one"]
    found = service(embedder, free=200 * MIB).resolve(texts, "document")
    assert found.left == {1}
    assert isinstance(found.error, MemoryBudgetError)
    assert found.vectors[[0, 2, 3]].any(axis=1).all()
    assert not any(len(text) > MIB for batch in embedder.batches for text in batch)
    with pytest.raises(MemoryBudgetError):
        service(embedder, free=200 * MIB).embed_batch(texts)


def test_what_was_embedded_before_the_model_failed_is_not_lost():
    embedder = Careful()
    embedder.fails_on = "server"
    found = service(embedder, batch_size=2).resolve(["a", "bb", "ccc", "server", "longer than server"], "document")
    assert found.left == {2, 3, 4}
    assert found.embedded == 2
    assert "does not answer" in str(found.error)


def test_others_are_told_whenever_the_model_is_asked_and_while_memory_is_waited_for():
    free, told, embedder = [MIB], [], Careful()
    scheduler = Scheduler(reserve=0, probe=lambda: Available(free[0], "a test", 8192 * MIB, 0, ()), patience=60.0)
    made = EmbeddingService(embedder, cache=None, scheduler=scheduler, batch_size=8)

    def begin():
        told.append(len(embedder.batches))
        free[0] = 4096 * MIB

    assert made.resolve(["one", "two"], "document", meanwhile=Others(begin)).error is None
    assert told == [0, 0]  # it waited, and it asked


def test_others_begin_when_a_model_has_prepared_its_texts():
    told = []

    class Prepared(Careful):
        def prepared(self, texts, role):
            told.append("prepared")
            return lambda: told.append("at work") or self.embed(texts, role)

    found = service(Prepared()).resolve(["one", "two"], "document", meanwhile=Others(lambda: told.append("begun")))
    assert told == ["prepared", "begun", "at work"]
    assert (found.vectors == StaticEmbedder().embed(["one", "two"], "document")).all()


def test_others_write_what_was_made_into_the_file_of_the_cache_and_it_is_known_at_once(tmp_path):
    others, embedder = Others(), Careful()
    with EmbeddingCache(tmp_path / "cache") as cache, EmbeddingCache(tmp_path / "cache") as another:
        made = EmbeddingService(embedder, cache=cache, scheduler=Scheduler(), batch_size=2)
        found = made.resolve(["one", "two", "three"], "document", meanwhile=others)
        assert (found.embedded, len(others.jobs), another.stats()["items"]) == (3, 2, 0)
        assert made.resolve(["two", "one"], "document", meanwhile=others).cache_hits == 2
        for job in others.jobs:
            job()
        assert another.stats()["items"] == 3
        kept, known = another.get_many(embedder.fingerprint, "document", embedder.dim, ["one", "two", "three"])
    assert known.all()
    assert (kept == found.vectors).all()
    assert len(embedder.batches) == 2


def test_nobody_is_told_to_go_on_beside_a_model_that_is_not_asked(tmp_path):
    told = []
    with EmbeddingCache(tmp_path / "cache") as cache:
        made = EmbeddingService(Careful(), cache=cache, scheduler=Scheduler())
        for count in (2, 2, 3):
            made.resolve(["one", "two", "three"][:count], "document", meanwhile=Others(lambda: told.append("asked")))
            told.append(count)
    assert told == ["asked", 2, 2, "asked", 3]


def test_texts_without_a_vector_are_named_and_the_others_have_theirs():
    found = service(Careful()).resolve(["one", "no vector here", " \n", "two"], "document")
    assert found.unembeddable == {1: "the model has no vector for it", 2: "it is blank"}
    assert (found.embedded, found.error) == (2, None)
    with pytest.raises(UnembeddableTextError, match="text 1"):
        service(Careful()).embed_batch(["one", "no vector here"])


def test_a_vector_that_is_not_finite_is_refused():
    embedder = Careful()
    embedder.spoils = "bad"
    with pytest.raises(InvalidVectorError, match="NaN"):
        service(embedder).embed_batch(["good", "bad"])


def test_one_text_is_not_taken_for_a_list_of_letters():
    with pytest.raises(EmbedderError, match="pass \\[text\\]"):
        service(Careful()).embed_batch("hello")


def test_asynchronous_callers_get_the_same():
    texts = ["one", "two"]
    assert (asyncio.run(service(Careful()).aembed_batch(texts)) == service(Careful()).embed_batch(texts)).all()
    assert (asyncio.run(service(Careful()).aembed_text("one")) == service(Careful()).embed_text("one")).all()


# -- in the pipeline


def pending(memory):
    return memory.status()["store"]["documents"]["pending"]


@pytest.mark.slow
def test_a_note_too_long_for_the_memory_stays_pending_and_stops_nobody(settings):
    # The model itself takes about 110 MiB, and this one asks for 64 bytes a character: 320 MiB for the long note.
    tight = settings.with_values({"memory.max_bytes": _used() + 250 * MIB, "memory.reserve": 0})
    with Memory(settings=tight, embedder=Careful()) as memory:
        memory.add(["a short note", "word " * MIB, "another short one"], ids=["a", "long", "b"])
        assert pending(memory) == 1
        memory.add("one more")
        assert pending(memory) == 1
        assert len(memory.search("short note", mode="vector")) == 3
        assert memory.search("word", mode="keyword")[0].id == "long"


def _used() -> int:
    return int(Scheduler().status()["used"])


def test_a_model_that_stays_down_is_asked_once_a_run(settings, tmp_path):
    (tmp_path / "docs").mkdir()
    for n in range(30):
        (tmp_path / "docs" / f"{n}.md").write_text(f"document {n}")
    embedder = Careful()
    embedder.fails_on = "document"
    settings = settings.with_values({"embedding.batch_size": 5, "cache.enabled": False})
    with Memory(settings=settings, embedder=embedder) as memory:
        report = memory.ingest(tmp_path / "docs")
        assert (report.pending, report.added, len(embedder.batches)) == (30, 30, 1)
        again = memory.ingest(tmp_path / "docs")
        assert (again.pending, again.unchanged, len(embedder.batches)) == (0, 30, 2)
        assert "does not answer" in again.degraded
        embedder.fails_on = ""
        assert memory.ingest(tmp_path / "docs").embedded == 30
        assert pending(memory) == 0


def test_what_has_no_vector_is_found_by_its_words_and_never_asked_for_again(settings):
    embedder = Careful()
    with Memory(settings=settings.with_values({"cache.enabled": False}), embedder=embedder) as memory:
        memory.add(["a note with no vector", "a plain note"])
        asked = len(embedder.batches)
        memory.add("a third one")
        assert pending(memory) == 0
        assert not any("no vector" in text for batch in embedder.batches[asked:] for text in batch)
        assert memory.search("no vector", mode="keyword")[0].text == "a note with no vector"


def test_a_vector_does_not_outlive_a_text_that_was_deleted_while_it_was_embedded(settings):
    class Meddling(Careful):
        def embed(self, texts, role):
            vectors = super().embed(texts, role)
            if meddle:
                meddle.pop()()
            return vectors

    meddle = []
    embedder = Meddling()
    embedder.fails_on = "note"
    with Memory(settings=settings.with_values({"cache.enabled": False}), embedder=embedder) as memory:
        memory.add(["note one", "note two"], ids=["one", "two"])
        embedder.fails_on = ""

        def delete():
            with memory.store.catalog.transaction() as sql:
                memory.store.documents.delete(sql, list(memory.store.documents.rows_of(["one"]).values()))

        meddle.append(delete)
        memory.add("a third")
        assert memory.store.catalog.value("SELECT count(*) FROM vectors") == 2
        assert len(memory.search("note", mode="vector", k=2)) == 2


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ("one text", "got one str where a list of texts is expected"),
        (None, "got one NoneType where a list of texts is expected"),
        (3, "got one int where a list of texts is expected"),
        (["a", 3], "text 1 is a int, not a str"),
        ([b"a"], "text 0 is a bytes, not a str"),
        (b"one text", "got one bytes where a list of texts is expected"),
        (iter(["a", "b"]), r"got a list_iterator where a list of texts is expected: pass list\(texts\)"),
        ({"a", "b"}, "got a set where a list of texts is expected"),
        ({"a": 1}, "got a dict where a list of texts is expected"),
    ],
    ids=["str", "none", "number", "a-number-in-it", "bytes-in-it", "bytes", "iterator", "set", "dict"],
)
def test_what_is_no_list_of_texts_is_an_error_that_says_what_it_is(texts, said):
    embedder = Careful()
    with pytest.raises(EmbedderError, match=said):
        service(embedder).embed_batch(texts)
    assert embedder.batches == []
    with pytest.raises(EmbedderError, match=said):
        StaticEmbedder().embed(texts, "document")
