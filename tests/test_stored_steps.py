"""Transitions and sequences in catalog and index: made of the commands' vectors, in step with the events."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from omnimemory import Memory
from omnimemory.procedure.stored_steps import SEQUENCE, StepChanges, sequence_table, store_steps, transition_table
from omnimemory.records import IngestReport
from omnimemory.storage.steps import clear_steps
from omnimemory.storage.vectors import read_vectors

LINES = ["cd api", "git pull", "make test", "git add .", "git commit -m x", "git push", "cd web", "npm test", "ls"]


def bring(memory: Memory, folder, lines: list[str], *, gap: int = 5) -> IngestReport:
    path = folder / "history"
    path.write_text("".join(f": {1_700_000_000 + gap * at}:0;{line}\n" for at, line in enumerate(lines)))
    return memory.ingest_history(path, shell="zsh")


def told(memory: Memory, kind: str) -> dict[str, tuple[str, ...]]:
    """Return the stored steps of a kind by public id."""
    table = transition_table(memory.store) if kind == "transitions" else sequence_table(memory.store, 0.1)
    rows = [row for row, *_ in table.known()]
    return {item.id: tuple(item.text.split("\n")) for item in table.items(rows).values()}


def change(memory: Memory) -> StepChanges:
    return store_steps(memory.store, 1800.0, memory.embeddings.sequence_decay, 10_000)


def test_each_step_and_each_eight_commands_are_stored_with_the_vectors_of_their_commands(memory, tmp_path):
    bring(memory, tmp_path, LINES)
    assert sorted(told(memory, "transitions").values()) == sorted(pairwise(LINES))
    assert list(told(memory, "sequences").values()) == [tuple(LINES[:SEQUENCE])]  # one command alone is no sequence
    made = memory.embeddings.embed_command_sequence(LINES)
    table = transition_table(memory.store)
    ((_, items, vectors),) = read_vectors(memory.store.catalog, table.collection)
    stored = dict(zip(items.tolist(), vectors, strict=True))
    texts = table.items(list(stored))
    for row, vector in stored.items():
        place = LINES.index(texts[row].text.split("\n")[0])
        assert np.allclose(vector, made.transition_embeddings[place], atol=1e-6)


def test_a_grown_history_touches_only_what_changed(memory, tmp_path):
    bring(memory, tmp_path, LINES)
    before = told(memory, "transitions")
    report = bring(memory, tmp_path, [*LINES, "cargo build"])
    assert (report.embedded, report.events) == (1, 1)  # one model call, for one command
    after = told(memory, "transitions")
    assert after.items() > before.items()
    assert [after[new] for new in after.keys() - before.keys()] == [("ls", "cargo build")]
    assert list(told(memory, "sequences").values()) == [tuple(LINES[:SEQUENCE]), ("ls", "cargo build")]
    assert bring(memory, tmp_path, [*LINES, "cargo build"]).events == 0
    assert change(memory) == StepChanges()
    grown = bring(memory, tmp_path, [*LINES, "cargo build", "ls"])
    assert (grown.embedded, grown.added) == (0, 0)
    assert ("ls", "cargo build", "ls") in told(memory, "sequences").values()
    assert len(told(memory, "sequences")) == 2


def test_pauses_end_sessions_and_histories_that_keep_each_command_once_have_no_steps(memory, tmp_path):
    bring(memory, tmp_path, LINES, gap=2000)
    path = tmp_path / "fish_history"
    path.write_text("".join(f"- cmd: {text}\n  when: {1_700_000_000 + at}\n" for at, text in enumerate("abc")))
    memory.ingest_history(path)
    assert told(memory, "transitions") == told(memory, "sequences") == {}


def test_any_chroma_client_reads_them_and_the_space_says_how_they_are_made(indexed, tmp_path):
    import chromadb

    with Memory(settings=indexed) as memory:
        bring(memory, tmp_path, LINES)
        half = memory.embeddings.embed_command_sequence(LINES[:2])
        names = told(memory, "transitions")
        generation = memory.store.generations.active()
    copy = shutil.copytree(indexed.store.path / "index" / str(generation), tmp_path / "copy")
    client = chromadb.PersistentClient(str(copy))
    steps = client.get_collection("transitions", embedding_function=None)
    assert steps.metadata["dim"] == 512
    assert "half=256" in steps.metadata["fingerprint"]
    found = steps.query(query_embeddings=half.transition_embeddings, n_results=1, include=["documents", "distances"])
    assert found["documents"] == [["cd api\ngit pull"]]
    assert found["distances"][0][0] < 1e-5
    assert set(steps.get()["ids"]) == names.keys()
    assert client.get_collection("sequences", embedding_function=None).count() == 1


def test_what_is_forgotten_of_a_command_is_forgotten_of_its_steps(memory, tmp_path):
    bring(memory, tmp_path, [*LINES, "git pull", "ls"])
    memory.forget(pattern="git pull")
    assert "git pull" not in repr((told(memory, "transitions"), told(memory, "sequences")))
    catalog = memory.store.catalog
    for kind in ("transitions", "sequences"):
        owner = f"(SELECT id FROM collections WHERE name = '{kind}')"
        assert catalog.value(f"SELECT count(*) FROM vectors WHERE collection_id = {owner}") == len(told(memory, kind))
    change(memory)
    steps = set(told(memory, "transitions").values())
    assert ("cd api", "make test") in steps  # what is left follows one another now
    assert ("make test", "git add .") in steps


@pytest.mark.parametrize("change_of", ["dim", "decay"])
def test_what_is_made_in_another_way_is_made_anew(settings, tmp_path, change_of):
    with Memory(settings=settings) as memory:
        bring(memory, tmp_path, LINES)
        if change_of == "dim":
            memory.reembed(dim=64)
    changed = settings.with_values({"embedding.dim": 64} if change_of == "dim" else {"history.sequence_decay": 2.0})
    with Memory(settings=changed) as memory:
        bring(memory, tmp_path, LINES)
        assert len(told(memory, "transitions")) == len(LINES) - 1
        wanted = memory.embeddings.embed_command_sequence(LINES[:SEQUENCE])
        table = sequence_table(memory.store, memory.embeddings.sequence_decay)
        ((_, _, vectors),) = read_vectors(memory.store.catalog, table.collection)
        assert np.allclose(vectors[0], wanted.sequence_embedding, atol=1e-6)
        assert transition_table(memory.store).collection.dim == 2 * min(256, memory.embeddings.dim)


def test_asking_for_half_a_step_finds_what_an_exact_search_finds(memory, tmp_path):
    bring(memory, tmp_path, [f"{word} {name}" for word in ("git add", "make", "npm run", "ls") for name in "abcdefgh"])
    table = transition_table(memory.store)
    ((_, items, vectors),) = read_vectors(memory.store.catalog, table.collection)
    half = vectors.shape[1] // 2
    for row in range(0, len(vectors), 3):
        query = np.concatenate([vectors[row, :half], np.zeros(half, np.float32)]) * np.float32(2**0.5)
        exact = items[np.argsort(-(vectors @ query), kind="stable")[:10]]
        assert len(set(memory.store.nearest("transitions", query, 10).rows) & set(exact.tolist())) >= 9
        assert memory.store.nearest("transitions", query, 1).scores[0] == pytest.approx(0.5**0.5, abs=1e-5)


def test_damaged_steps_are_named_and_made_again(settings, tmp_path):
    with Memory(settings=settings) as memory:
        bring(memory, tmp_path, LINES)
        whole = sorted(told(memory, "transitions").values())
        with memory.store.catalog.transaction() as sql:
            sql.execute("UPDATE transitions SET after = before WHERE id = 3")
            sql.execute("UPDATE sequences SET commands = '[]'")
        assert not memory.doctor().ok
    with Memory(settings=settings) as memory:
        memory.repair()
        bring(memory, tmp_path, LINES)
        assert memory.doctor().ok
        assert sorted(told(memory, "transitions").values()) == whole


def test_several_that_store_the_same_steps_at_once_store_each_once(memory, tmp_path):
    lines = [f"command {number % 401} {number % 7}" for number in range(3000)]
    bring(memory, tmp_path, lines)
    change(memory)
    expected = told(memory, "transitions"), told(memory, "sequences")
    for _ in range(3):
        with memory.store.catalog.transaction() as sql:
            clear_steps(sql)
        with ThreadPoolExecutor(4) as pool:
            changes = list(pool.map(lambda _: change(memory), range(4)))
        assert sum(one.transitions_added for one in changes) == len(expected[0])
        assert sum(one.sequences_added for one in changes) == len(expected[1])
        assert (set(told(memory, "transitions").values()), set(told(memory, "sequences").values())) == tuple(
            set(found.values()) for found in expected
        )
