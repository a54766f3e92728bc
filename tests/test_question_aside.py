"""While a model is not ready keywords answer, and what was begun is finished: the next question finds it ready."""

import threading

import pytest
from fake_ollama import FakeModel, FakeOllama, word_vector
from served_cases import ollama
from store_cases import wait_until

from omnimemory.embedders.static import StaticEmbedder
from omnimemory.errors import EmbedderError, OmniMemoryError
from omnimemory.memory import Memory
from omnimemory.question_aside import QuestionAside

LONG = 60.0


class Loading(StaticEmbedder):
    """The static model, which loads for its first question until it is let, and so is slower than the cache."""

    instant = False

    def __init__(self):
        super().__init__()
        self.may, self.asked = threading.Event(), []

    def embed(self, texts, role):
        if role == "query":
            self.asked.extend(texts)
            assert self.may.wait(LONG)
        return super().embed(texts, role)


@pytest.fixture
def loading():
    embedder = Loading()
    yield embedder
    embedder.may.set()


def opened(settings, embedder, seconds):
    return Memory(settings=settings.with_values({"search.model_seconds": seconds}), embedder=embedder)


def asking():
    return [thread for thread in threading.enumerate() if thread.name == "omnimemory-question"]


def test_keywords_answer_while_the_model_loads_and_vectors_as_soon_as_it_is_ready(settings, loading):
    with opened(settings, loading, 0.05) as memory:
        memory.add(["how to restore a backup", "the lighthouse at the coast"])
        for question in ("backup", "lighthouse", "backup"):
            hits = memory.search(question)
            assert [question in hit.text for hit in hits] == [True]
            assert "the model was not ready within 0.05 s (search.model_seconds)" in hits.degraded
            assert hits[0].ranks == {"keyword": 1}
        assert loading.asked == ["backup"]  # nothing else is asked of a model that loads
        assert len(asking()) == 1
        loading.may.set()
        assert wait_until(lambda: not asking())
        hits = memory.search("backup")
        assert hits.degraded is None
        assert "vector" in hits[0].ranks
        assert loading.asked == ["backup"]  # its vector came late and was kept
        assert memory.status()["answers"]["degraded"] == 3


def test_whoever_wants_vectors_waits_for_them(settings, loading):
    with opened(settings, loading, 0.01) as memory:
        memory.add("how to restore a backup")
        threading.Timer(0.3, loading.may.set).start()
        assert memory.search("backup", mode="vector").degraded is None


def test_without_a_limit_a_search_waits_as_long_as_it_takes(settings, loading):
    with opened(settings, loading, None) as memory:
        memory.add("how to restore a backup")
        threading.Timer(0.3, loading.may.set).start()
        assert memory.search("backup").degraded is None
        assert not asking()


def test_a_model_that_fails_in_time_is_told_as_ever(settings):
    class Broken(StaticEmbedder):
        def embed(self, texts, role):
            if role == "query":
                raise EmbedderError("the model is gone")
            return super().embed(texts, role)

    with opened(settings, Broken(), LONG) as memory:
        memory.add("how to restore a backup")
        assert memory.search("backup").degraded == "only keywords were searched: the model is gone"


def test_a_model_that_fails_too_late_is_told_by_the_next_search_and_asked_again_after_that(settings, loading):
    real = loading.embed

    def broken(texts, role):
        real(texts, role)
        raise EmbedderError("its files are cut")

    with opened(settings, loading, 0.05) as memory:
        memory.add("how to restore a backup")
        loading.embed = broken
        assert "search.model_seconds" in memory.search("backup").degraded
        loading.may.set()
        assert wait_until(lambda: not asking())
        assert memory.search("backup").degraded == "only keywords were searched: its files are cut"
        loading.embed = real
        assert memory.search("backup").degraded is None


def test_a_limit_that_is_as_short_as_can_be_does_not_keep_a_ready_model_from_answering(settings):
    with opened(settings, StaticEmbedder(), 0.01) as memory:
        memory.add("how to restore a backup")
        memory.search("backup", mode="vector")
        assert wait_until(lambda: memory.search("backup").degraded is None)


def test_a_search_while_the_memory_is_closed_ends_in_an_error_of_ours(settings, loading):
    with opened(settings, loading, LONG) as memory:
        memory.add("how to restore a backup")
        ended = []

        def search():
            try:
                ended.append(memory.search("backup", mode="hybrid").degraded)
            except OmniMemoryError as error:
                ended.append(str(error))

        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert wait_until(lambda: loading.asked)
        closing = threading.Thread(target=memory.close)
        closing.start()
        assert wait_until(lambda: memory.embeddings._aside._closed)
        loading.may.set()
        for thread in [*threads, closing]:
            thread.join(LONG)
    assert len(ended) == 3


def test_a_question_that_comes_while_another_is_asked_is_answered_when_that_ends_in_time(settings, loading):
    with opened(settings, loading, LONG) as memory:
        memory.add("how to restore a backup")
        threading.Timer(0.2, loading.may.set).start()
        found = []
        threads = [threading.Thread(target=lambda: found.append(memory.search("backup again"))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [hits.degraded for hits in found] == [None] * 4


def test_a_memory_is_closed_while_its_model_is_not_ready(settings, loading):
    memory = opened(settings, loading, 0.01)
    memory.add("how to restore a backup")
    assert memory.search("backup").degraded
    memory.close()
    assert len(asking()) == 1  # it cannot be stopped, and keeps nobody
    loading.may.set()
    assert wait_until(lambda: not asking())


def test_a_server_that_loads_a_model_keeps_no_search_waiting(settings):
    may = threading.Event()

    def vector(text):
        assert "backup" not in text or "restore" in text or may.wait(LONG)
        return word_vector(text)

    with (
        FakeOllama({"tiny:latest": FakeModel(vector=vector)}) as server,
        opened(settings, ollama(server, seconds=LONG), 0.1) as memory,
    ):
        memory.add("how to restore a backup")
        hits = memory.search("backup")
        assert [hit.text for hit in hits] == ["how to restore a backup"]
        assert "search.model_seconds" in hits.degraded
        may.set()
        assert wait_until(lambda: not asking())
        assert memory.search("backup").degraded is None


def test_a_memory_is_closed_while_a_server_keeps_it_waiting(settings):
    may = threading.Event()

    def vector(text):
        assert "backup" not in text or "restore" in text or may.wait(LONG)
        return word_vector(text)

    with FakeOllama({"tiny:latest": FakeModel(vector=vector)}) as server:
        with opened(settings, ollama(server, seconds=LONG), 0.01) as memory:
            memory.add("how to restore a backup")
            assert memory.search("backup").degraded
        may.set()
    assert wait_until(lambda: not asking())


def test_an_answer_that_nobody_wants_any_more_can_be_told():
    aside, left, may = QuestionAside(), [], threading.Event()

    def ask(is_left):
        assert may.wait(LONG)
        left.append(is_left())

    assert aside.within(0.0, ask) is None
    aside.leave()
    with pytest.raises(EmbedderError, match="closed"):
        aside.within(LONG, ask)
    may.set()
    aside.finish()
    assert left == [True]
