"""A store moves to another model: searched all the time, equal to a fresh one in the end, and back if need be."""

import threading

import numpy as np
import pytest
from reembed_cases import COMMANDS, OtherModel, fill, fresh, held, notes, spaces

from omnimemory.embedders.static import StaticEmbedder
from omnimemory.errors import (
    ConfigError,
    EmbedderError,
    ModelServerError,
    SpaceMismatchError,
    StoreBusyError,
    StoreError,
)
from omnimemory.memory import Memory
from omnimemory.storage.cache import EmbeddingCache
from omnimemory.storage.drain import StoreOptions
from omnimemory.storage.store import Store
from omnimemory.storage.vectors import insert_vectors

COUNT = 40 + len(COMMANDS)


@pytest.fixture
def filled(settings, tmp_path):
    """A memory of the static model with 40 notes and 5 commands, in batches of 8."""
    with Memory(settings=settings.with_values({"embedding.batch_size": 8}), model="static") as memory:
        fill(memory, tmp_path)
        yield memory


def best(memory, number=5):
    return memory.search(f"note {number} tells of harbour number {number * 7919 % 997}", k=1, mode="vector")[0].text


def test_a_moved_store_holds_what_a_fresh_one_holds_and_keeps_the_old_vectors(filled, settings, tmp_path):
    said = []
    report = filled.reembed(dim=128, progress=said.append)
    assert (report.state, report.texts, report.embedded, report.resumed) == ("moved", COUNT, COUNT, 0)
    assert (report.before, report.after, report.dim) == ("static:wordllama-256", "static:wordllama-128", 128)
    assert [step.done for step in said if step.stage == "embed"][::6] == [0, COUNT]
    assert spaces(filled) == {"documents": 40, "documents:former": 40, "commands": 5, "commands:former": 5}
    assert held(filled) == fresh(settings, tmp_path, StaticEmbedder(128))
    assert best(filled) == notes(6)[5]
    filled.close()
    with Memory(settings=settings) as again:  # "auto" takes what the store is of now
        assert again.embeddings.dim == 128
        assert best(again) == notes(6)[5]


def test_old_cache_entries_stay_and_forgetting_reaches_them(filled, settings):
    embedder = filled.embeddings.embedder
    filled.reembed(dim=128)
    filled.reembed(confirm=True)
    text = [notes(6)[5]]
    used = [embedder, filled.embeddings.embedder]
    assert [_cached(settings, one, text) for one in used] == [True, True]
    filled.forget(ids=["n5"])
    assert [_cached(settings, one, text) for one in used] == [False, False]


def _cached(settings, embedder, texts):
    with EmbeddingCache(settings.cache.path) as cache:
        return bool(cache.get_many(embedder.fingerprint, "document", embedder.dim, texts)[1].all())


def test_confirming_drops_the_old_vectors_and_nothing_else(filled):
    filled.reembed(dim=128)
    before = held(filled)
    report = filled.reembed(confirm=True)
    assert (report.state, report.before, report.dropped) == ("confirmed", "static:wordllama-256", COUNT)
    assert report.texts == filled.reembed(dim=128).texts == 45
    assert spaces(filled) == {"documents": 40, "commands": 5}
    assert held(filled) == before
    assert filled.reembed(confirm=True).dropped == 0
    assert filled.reembed(dim=64).state == "moved"


def test_undoing_a_move_that_has_not_ended_gives_it_up(filled):
    before = held(filled)
    with pytest.raises(ModelServerError):
        filled.reembed(embedder=OtherModel(batches=3))
    report = filled.reembed(undo=True)
    assert (report.state, report.before, report.after, report.dropped) == (
        *("given up", "other:model", "static:wordllama-256"),
        24,
    )
    kept = {"documents": 40, "commands": 5, "transitions": 4, "sequences": 1}
    assert (held(filled), spaces(filled)) == (before, kept)


def test_undoing_goes_back_and_embeds_what_came_since(filled, settings, tmp_path):
    filled.reembed(embedder=OtherModel())
    filled.add("a note of later", ids="late")
    report = filled.reembed(undo=True)
    assert (report.state, report.after, report.dropped, report.embedded) == (
        "undone",
        "static:wordllama-256",
        COUNT + 1,
        1,
    )

    def with_the_late_one(memory, folder):
        fill(memory, folder)
        memory.add("a note of later", ids="late")

    assert held(filled) == fresh(settings, tmp_path, StaticEmbedder(256), with_the_late_one)
    assert spaces(filled) == {"documents": 41, "commands": 5}
    with pytest.raises(StoreError, match="nothing to go back to"):
        filled.reembed(undo=True)


def test_it_goes_on_where_the_model_went_away(filled, settings, tmp_path):
    with pytest.raises(ModelServerError, match="went away"):
        filled.reembed(embedder=OtherModel(batches=3))
    assert spaces(filled)["documents:next"] == 24
    assert best(filled) == notes(6)[5]
    filled.forget(ids=["n5", "n39"])  # one of them has a vector of the other model already
    filled.add("a note of meanwhile", ids="m")
    model = OtherModel()
    report = filled.reembed(embedder=model)
    assert (report.state, report.resumed, report.embedded) == ("moved", 23, COUNT - 2 + 1 - 23)
    assert "note 0" not in " ".join(model.asked)

    def as_it_became(memory, folder):
        fill(memory, folder)
        memory.forget(ids=["n5", "n39"])
        memory.add("a note of meanwhile", ids="m")

    assert held(filled) == fresh(settings, tmp_path, OtherModel(), as_it_became)


def test_what_is_stored_and_deleted_while_it_moves_ends_right(filled, settings, tmp_path):
    changes = iter(["add", "forget"])

    def change():
        step = next(changes, None)
        if step == "add":
            filled.add("a note of meanwhile", ids="m")
        elif step == "forget":
            filled.forget(ids=["n9"])  # its text has been read, and its vector is being made

    report = filled.reembed(embedder=OtherModel(before=change))
    assert (report.state, report.pending) == ("moved", 0)

    def as_it_became(memory, folder):
        fill(memory, folder)
        memory.add("a note of meanwhile", ids="m")
        memory.forget(ids=["n9"])

    assert held(filled) == fresh(settings, tmp_path, OtherModel(), as_it_became)
    assert not _cached(settings, OtherModel(), [notes(10)[9]])


def test_a_text_that_the_new_model_does_not_know_stays_and_has_its_vector_again_after_going_back(filled):
    filled.add("something unknown to the other", ids="u")
    before = held(filled)
    report = filled.reembed(embedder=OtherModel())
    assert (report.refused, report.pending) == (1, 0)
    assert held(filled)["documents"]["something unknown to the other"] == (0, "it is unknown")
    assert filled.search("unknown", mode="keyword")[0].id == "u"
    filled.reembed(undo=True)
    assert held(filled) == before


def test_every_search_in_every_thread_is_answered_while_it_moves(filled):
    stop, failures, answers = threading.Event(), [], set()

    def ask():
        while not stop.is_set():
            try:
                answers.add(best(filled))
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not be there
                failures.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for dim in (128, 64, 256):
        assert filled.reembed(dim=dim).state == "moved"
        filled.reembed(confirm=True)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert answers == {notes(6)[5]}


@pytest.mark.parametrize("mode", ["vector", "hybrid"])
def test_a_search_whose_vectors_are_deleted_before_it_has_looked_at_them_looks_at_the_new_ones(
    filled, monkeypatch, mode
):
    embed, moves = StaticEmbedder.embed, iter([128])

    def moved_meanwhile(embedder, texts, role):
        vectors = embed(embedder, texts, role)
        for dim in moves if role == "query" else ():
            assert filled.reembed(dim=dim).state == "moved"
            filled.reembed(confirm=True)
        return vectors

    monkeypatch.setattr(StaticEmbedder, "embed", moved_meanwhile)
    hits = filled.search("note 5 tells of harbour number 712", k=1, mode=mode)
    assert (hits[0].text, hits.degraded) == (notes(6)[5], None)
    assert "vector" in hits[0].ranks
    assert filled.embeddings.dim == 128


def test_whoever_has_the_store_open_searches_the_old_vectors_and_stores_no_more_of_them(filled, settings):
    space = {"fingerprint": filled.embeddings.embedder.fingerprint, "model": "static:wordllama-256", "dim": 256}
    other = Store(settings.store.path, StoreOptions(index=False), **space)  # as another process would
    query = filled.embeddings.embed_text(notes(6)[5])
    found = other.nearest("documents", query, 3)
    filled.reembed(dim=128)
    assert other.nearest("documents", query, 3).rows == found.rows
    with pytest.raises(SpaceMismatchError, match="open it again"), other.catalog.transaction() as sql:
        insert_vectors(sql, other.documents.collection, [99], np.ones((1, 256), dtype=np.float32))
    filled.forget(ids=["n5"])
    assert other.nearest("documents", query, 3).rows == other.nearest("documents", query, 4).rows[:3] != found.rows
    filled.reembed(confirm=True)
    with pytest.raises(SpaceMismatchError, match="open it again"):
        other.nearest("documents", query, 3)
    other.close()


def test_a_dry_run_estimates_and_changes_nothing(filled):
    counts, before = spaces(filled), held(filled)
    model = OtherModel()
    report = filled.reembed(embedder=model, dry_run=True)
    assert (report.state, report.texts, report.resumed) == ("estimated", COUNT, 0)
    assert report.estimated_seconds > 0
    assert report.estimated_bytes > COUNT * 24 * 4
    assert (spaces(filled), held(filled)) == (counts, before)
    assert not filled.cache.get_many("other-24", "document", 24, notes(40))[1].any()
    with pytest.raises(ModelServerError):
        filled.reembed(embedder=OtherModel(batches=3))
    assert filled.reembed(embedder=model, dry_run=True).resumed == 24


def test_a_move_to_a_third_model_begins_anew(filled, settings, tmp_path):
    with pytest.raises(ModelServerError):
        filled.reembed(embedder=OtherModel(batches=3))
    report = filled.reembed(dim=64)
    assert (report.resumed, report.embedded) == (0, COUNT)
    assert held(filled) == fresh(settings, tmp_path, StaticEmbedder(64))


def test_what_cannot_be_meant_is_refused(filled, settings):
    for arguments in ({}, {"confirm": True, "undo": True}, {"confirm": True, "dim": 64}, {"model": "nothing"}):
        with pytest.raises(ConfigError):
            filled.reembed(**arguments)
    with pytest.raises(EmbedderError, match="no 3 dimensions"):
        filled.reembed(dim=3)
    with pytest.raises(EmbedderError, match="models pull"):
        filled.reembed("bge-small")
    assert filled.reembed("static").state == "unchanged"
    with Memory(settings=settings), pytest.raises(StoreBusyError, match="open more than once"):
        filled.reembed(dim=64)
    filled.reembed(dim=128)
    with pytest.raises(StoreError, match="--confirm"):
        filled.reembed(dim=64)


def test_two_moves_at_once_are_refused(filled):
    refused = []

    def again():
        with pytest.raises(StoreBusyError, match="Wait for it"):
            filled.reembed(dim=128)
        refused.append(True)

    filled.reembed(embedder=OtherModel(before=again))
    assert refused


def test_the_doctor_tells_of_moves_that_are_not_ended_and_complains_of_nothing(filled):
    with pytest.raises(ModelServerError):
        filled.reembed(embedder=OtherModel(batches=3))
    found = filled.doctor()
    assert found.ok
    assert [finding.message for finding in found.findings] == ["A move to other:model was begun and not ended."]
    filled.reembed(dim=128)
    found = filled.doctor()
    assert found.ok
    assert [finding.severity for finding in found.findings] == ["notice"]
    assert "--confirm" in found.findings[0].fix


@pytest.mark.slow
def test_the_index_is_made_anew_of_the_new_vectors(indexed, tmp_path):
    chosen = indexed.with_values({"search.exact_rows": 0})
    with Memory(settings=chosen, model="static") as memory:
        memory.add(notes(600))
        assert memory.store.drain() is None
        report = memory.reembed(dim=128)
        assert (report.state, report.degraded, memory.store.generations.waiting()) == ("moved", None, 0)
        assert memory.warm() is None
        assert best(memory) == notes(6)[5]
        assert memory.store.nearest("documents", memory.embeddings.embed_text(notes(6)[5]), 1).answered_by == "chroma"


def test_a_damaged_vector_beside_the_searched_ones_is_taken_out_and_made_again(filled):
    with pytest.raises(ModelServerError):
        filled.reembed(embedder=OtherModel(batches=3))
    with filled.store.catalog.transaction() as sql:
        sql.execute(
            "UPDATE vectors SET vector = zeroblob(96) WHERE row = (SELECT max(row) FROM vectors v JOIN collections c "
            "ON c.id = v.collection_id WHERE c.name = 'documents:next')"
        )
    assert not filled.doctor().ok
    assert filled.repair().ok
    assert filled.doctor().ok
    assert filled.reembed(embedder=OtherModel()).resumed == 23
