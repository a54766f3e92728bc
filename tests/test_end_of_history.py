"""The last commands of a history and its events: stored while the model works, and the vectors when it is done."""

import pytest
from fault_cases import dump
from overlap_cases import SMALL, Aside, beside
from store_cases import finish, start, wait_until

from omnimemory.errors import EmbedderError, StoreError, StoreFullError
from omnimemory.ingest import batch_work, events, pace
from omnimemory.memory import Memory

COUNT, LAST = 24, 3  # commands, and which of the batches is the last

MOVED = """
import sys
from pathlib import Path
from omnimemory.config import Settings
from omnimemory.memory import Memory

folder = Path(sys.argv[1])
values = {"store.path": folder / "store", "cache.path": folder / "cache", "index.enabled": False}
with Memory(settings=Settings().with_values(values), model="static") as memory:
    assert memory.reembed(dim=128).state == "moved"
"""


@pytest.fixture(autouse=True)
def even(monkeypatch):
    """All batches as large as the setting says: how large they are otherwise depends on the clock."""
    monkeypatch.setattr(pace, "_LEAST_SHARE", 1)


@pytest.fixture
def history(tmp_path):
    file = tmp_path / "history"
    file.write_text("".join(f": {1_600_000_000 + n}:0;make part{n % COUNT}\n" for n in range(3 * COUNT)))
    return file


@pytest.fixture
def small(settings):
    return settings.with_values({**SMALL, "history.steps": 0})


def counts(memory):
    queries = ("commands", "commands WHERE pending", "events", "vectors")
    return tuple(memory.store.catalog.value(f"SELECT count(*) FROM {query}") for query in queries)


def at_the_end(memory, then=lambda: None):
    """Return what holds the model up in the last batch until all is stored but its vectors, and does something then."""
    seen = []

    def first(number):
        if number == LAST:
            assert wait_until(lambda: counts(memory()) == (COUNT, 8, 3 * COUNT, 16))
            seen.append(len(memory().search("make part23", mode="keyword", k=1)))
            then()

    return Aside(first), seen


def opened(settings, then=lambda: None):
    held = []
    embedder, seen = at_the_end(lambda: held[0], then)
    held.append(Memory(settings=settings, embedder=embedder))
    return held[0], seen


def in_turn(settings, tmp_path, history):
    """Return what a store holds into which the history was read step by step."""
    values = {"store.path": tmp_path / "turn" / "store", "cache.path": tmp_path / "turn" / "cache"}
    with Memory(settings=settings.with_values(values)) as memory:
        memory.ingest_history(history, shell="zsh")
    return dump(tmp_path / "turn")


def test_all_but_the_last_vectors_is_stored_and_found_by_words_while_the_model_makes_them(small, history, tmp_path):
    memory, seen = opened(small)
    with memory:
        report = memory.ingest_history(history, shell="zsh")
        assert (report.added, report.events, report.embedded, report.pending) == (COUNT, 3 * COUNT, COUNT, 0)
        assert counts(memory)[:3] == (COUNT, 0, 3 * COUNT)
        again = memory.ingest_history(history, shell="zsh")
        assert (again.added, again.embedded, again.events) == (0, 0, 0)
    assert seen == [1]
    assert dump(tmp_path) == in_turn(small, tmp_path, history)


@pytest.mark.parametrize("cached", [True, False])
def test_an_interrupt_leaves_them_without_vectors_and_the_next_run_makes_these(small, history, tmp_path, cached):
    def interrupt():
        raise KeyboardInterrupt

    small = small.with_values({"cache.enabled": cached})
    memory, _ = opened(small, interrupt)
    with memory:
        with pytest.raises(KeyboardInterrupt):
            memory.ingest_history(history, shell="zsh")
        assert beside() == []
        assert counts(memory) == (COUNT, 8, 3 * COUNT, 16)
        report = memory.ingest_history(history, shell="zsh")
        assert (report.added, report.embedded, report.pending) == (0, 8, 0)
    assert dump(tmp_path) == in_turn(small, tmp_path, history)


def test_a_model_that_fails_then_leaves_them_pending(small, history, tmp_path):
    def fail():
        raise EmbedderError("the model is gone")

    memory, _ = opened(small, fail)
    with memory:
        report = memory.ingest_history(history, shell="zsh")
        assert (report.added, report.embedded, report.pending) == (COUNT, 16, 8)
        assert report.degraded == "the model is gone"
        assert memory.ingest_history(history, shell="zsh").embedded == 8
    assert dump(tmp_path) == in_turn(small, tmp_path, history)


def test_what_is_forgotten_then_gets_no_vector_and_is_not_left_in_the_cache(small, history):
    def forget():
        with Memory(settings=small) as other:
            other.forget(pattern="re:part(20|3)$")

    memory, _ = opened(small, forget)
    with memory:
        report = memory.ingest_history(history, shell="zsh")
        assert report.pending == 0
        assert counts(memory) == (COUNT - 2, 0, 3 * (COUNT - 2), COUNT - 2)
        assert memory.cache.stats()["items"] == COUNT - 2
        asked = memory.embeddings.embedder.fingerprint, "document", memory.embeddings.dim
        assert memory.cache.get_many(*asked, ["make part20", "make part21"])[1].tolist() == [False, True]


def test_what_is_forgotten_then_is_not_left_in_the_cache_by_an_interrupt(small, history):
    def forget():
        with Memory(settings=small) as other:
            other.forget(pattern="re:part20$")
        raise KeyboardInterrupt

    memory, _ = opened(small, forget)
    with memory:
        with pytest.raises(KeyboardInterrupt):
            memory.ingest_history(history, shell="zsh")
        assert counts(memory)[:2] == (COUNT - 1, 7)
        assert memory.cache.stats()["items"] == 16


@pytest.mark.parametrize("fails", [False, True])
def test_what_another_process_embeds_then_keeps_its_vectors_and_stays_in_the_cache(small, history, tmp_path, fails):
    note = tmp_path / "note.md"
    note.write_text("# A note\n")

    def embed():
        with Memory(settings=small) as other:
            assert other.ingest(note).added == 1
            assert counts(other)[1] == 0
        if fails:
            raise EmbedderError("the model is gone")

    memory, _ = opened(small, embed)
    with memory:
        report = memory.ingest_history(history, shell="zsh")
        assert (report.added, report.events) == (COUNT, 3 * COUNT)
        assert report.pending == 0
        assert counts(memory) == (COUNT, 0, 3 * COUNT, COUNT + 1)
        assert memory.cache.stats()["items"] == COUNT + 1


def test_a_batch_that_cannot_be_stored_keeps_the_end_from_being_stored(small, history, monkeypatch):
    with Memory(settings=small, embedder=Aside()) as memory:
        add, calls = memory.store.commands.add, []

        def full(*given, **options):
            calls.append(given)
            if len(calls) == LAST - 1:
                raise OSError(28, "No space left on device")
            return add(*given, **options)

        monkeypatch.setattr(memory.store.commands, "add", full)
        with pytest.raises(StoreError, match="is full"):
            memory.ingest_history(history, shell="zsh")
        assert counts(memory) == (8, 0, 0, 8)
        monkeypatch.undo()
        assert memory.ingest_history(history, shell="zsh").added == 16


def test_many_events_come_after_the_vectors(small, history, monkeypatch):
    monkeypatch.setattr(events, "_MOST_AHEAD", 3 * COUNT - 1)
    seen = []
    with Memory(settings=small, embedder=Aside(lambda _: seen.append(counts(memory)[2]))) as memory:
        assert memory.ingest_history(history, shell="zsh").events == 3 * COUNT
    assert seen == [0] * LAST


def test_what_is_forgotten_before_stops_the_run_and_nothing_of_the_end_is_stored(small, history):
    def forget(number):
        if number == LAST - 1:
            with Memory(settings=small) as other:
                other.forget(pattern="re:part3$")

    with Memory(settings=small, embedder=Aside(forget)) as memory:
        report = memory.ingest_history(history, shell="zsh")
        assert "something was forgotten while this ran" in report.failures[0].reason
        assert counts(memory)[2] == 0
        assert memory.cache.stats()["items"] == counts(memory)[0]


def test_a_store_that_moves_to_another_model_then_keeps_them_pending(small, history):
    def move():
        finish(start(MOVED, small.store.path.parent))

    memory, _ = opened(small, move)
    with memory:
        report = memory.ingest_history(history, shell="zsh")
        assert (report.added, report.events, report.pending) == (COUNT, 3 * COUNT, 8)
        assert "to another model since it was opened here" in report.degraded
    with Memory(settings=small) as memory:
        assert memory.ingest_history(history, shell="zsh").pending == 0
        assert counts(memory)[:3] == (COUNT, 0, 3 * COUNT)
        assert memory.search("make part23", mode="vector", k=1)[0].text == "make part23"


def test_without_room_for_its_vectors_the_end_is_not_stored_either(small, history, monkeypatch):
    asked, require = [], batch_work.require_room

    def room(path, needed, what):
        asked.append(what)
        if len(asked) == LAST:
            raise StoreFullError("the disk is full")
        require(path, needed, what)

    monkeypatch.setattr(batch_work, "require_room", room)
    with Memory(settings=small, embedder=Aside()) as memory:
        with pytest.raises(StoreFullError):
            memory.ingest_history(history, shell="zsh")
        assert counts(memory) == (16, 0, 0, 16)
        monkeypatch.undo()
        assert memory.ingest_history(history, shell="zsh").added == 8


def test_documents_come_with_their_vectors(small, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    for number in range(COUNT):
        (notes / f"n{number:02}.md").write_text(f"# Note {number}\n")
    (notes / "z.md").write_text("# Gone soon\n")
    with Memory(settings=small, embedder=Aside()) as memory:
        memory.ingest(notes / "z.md")
        (notes / "z.md").write_text("\n")
        seen = []
        memory.embeddings.embedder._first = lambda _: seen.append(
            memory.store.catalog.value("SELECT count(*) FROM chunks WHERE pending")
        )
        assert memory.ingest(notes).added == COUNT
    assert seen == [0] * LAST
