"""Repair makes anew what is derived, puts back what there is a copy of, embeds nothing, never gives up quietly."""

import json
import shutil

import pytest
from care_cases import (
    DAMAGED_ROW,
    EMBEDDER,
    FLIPPED_TEXT,
    FLIPPED_VECTOR,
    LOST_EVENT,
    LOST_VECTORS,
    LOST_WORDS,
    NO_TEXT,
    ONE_BIT,
    ORPHAN,
    WRONG_COUNTER,
    answers,
    broken_cache,
    fill,
    flip_key,
    garble_page,
    in_catalog,
    memory_of,
    opened_to_all,
    value,
)
from store_cases import start
from test_doctor import run

from omnimemory.care.doctor import examine
from omnimemory.care.repair import repair
from omnimemory.errors import CatalogDamagedError, StoreError


@pytest.fixture
def healthy(settings, tmp_path):
    return fill(settings, tmp_path)


MENDED = [
    pytest.param(FLIPPED_VECTOR, id="a flipped vector"),
    pytest.param(ONE_BIT, id="one bit of a text"),
    pytest.param(in_catalog("UPDATE events SET timestamp = timestamp + 1 WHERE id = 5"), id="one bit of an event"),
    pytest.param(flip_key, id="one bit of the key of an event"),
    pytest.param(
        in_catalog("UPDATE meta SET value = value + 1 - 2 * (value & 1) WHERE key = 'key_checksum'"),
        id="one bit of a checksum",
    ),
    pytest.param(WRONG_COUNTER, id="rows that never were"),
    pytest.param(LOST_WORDS, id="keywords lost"),
    pytest.param(LOST_VECTORS, id="vectors lost"),
    pytest.param(ORPHAN, id="a vector of nothing"),
    pytest.param(lambda s: garble_page(s, "events_source"), id="a garbled index of SQLite's"),
    pytest.param(lambda s: garble_page(s, "chunks_fts_data"), id="a garbled table of the keyword index"),
    pytest.param(lambda s: garble_page(s, "commands_fts_docsize"), id="another one"),
    pytest.param(lambda s: garble_page(s, "vectors"), id="the table of vectors garbled"),
    pytest.param(DAMAGED_ROW, id="a damaged row of the cache"),
    pytest.param(broken_cache, id="a broken cache"),
    pytest.param(lambda s: shutil.rmtree(s.cache.path), id="no cache"),
    pytest.param(opened_to_all, id="open to others"),
]


@pytest.mark.slow
@pytest.mark.parametrize("harm", MENDED)
def test_what_can_be_mended_is_mended_without_a_model(healthy, harm):
    before, asked = answers(healthy), EMBEDDER.asked
    harm(healthy)
    report = repair(healthy)
    assert (report.ok, report.left, report.skipped) == (True, (), ())
    assert report.done
    assert EMBEDDER.asked == asked
    assert [one for one in examine(healthy).findings if one.check != "leftovers"] == []
    assert value(healthy, "SELECT count(*) FROM events WHERE checksum IS NULL") == 0
    assert answers(healthy) == before
    assert not list(healthy.store.path.glob("*.damaged*"))
    assert not list(healthy.store.path.glob("*.repairing*"))
    assert repair(healthy).done == ()
    json.dumps(report.to_dict())


def test_a_vector_without_a_copy_waits_for_the_next_ingest(healthy, tmp_path):
    before = answers(healthy)
    in_catalog("UPDATE vectors SET vector = zeroblob(1024) WHERE row = 3")(healthy)
    shutil.rmtree(healthy.cache.path)
    report = repair(healthy)
    assert report.ok
    assert value(healthy, "SELECT count(*) FROM chunks WHERE pending") == 1
    with memory_of(healthy) as memory:
        assert memory.ingest(tmp_path / "docs").embedded == 1
    assert answers(healthy) == before


GIVEN_UP = [
    pytest.param(LOST_EVENT, "events", id="an event"),
    pytest.param(NO_TEXT, "commands", id="a command without a text"),
    pytest.param(in_catalog("UPDATE commands SET text = 'rm -rf /' WHERE id = 3"), "commands", id="a command"),
    pytest.param(FLIPPED_TEXT, "documents", id="a chunk"),
    pytest.param(lambda s: garble_page(s, "events"), "rows of events", id="a page of events"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("harm", "words"), GIVEN_UP)
def test_what_there_is_no_copy_of_is_left_until_it_may_be_given_up(healthy, tmp_path, harm, words):
    harm(healthy)
    report = repair(healthy)
    assert not report.ok
    assert any(words in one.message and "--discard" in one.fix for one in report.left), report.left
    with pytest.raises(CatalogDamagedError):
        memory_of(healthy)
    report = repair(healthy, discard=True)
    assert report.ok, report.left
    with memory_of(healthy) as memory:
        assert memory.search("what the deploy needs").degraded is None
        memory.ingest(tmp_path / "docs")
        assert memory.status()["store"]["documents"]["chunks"] == 16
    assert examine(healthy).ok


def test_a_catalog_that_is_gone_is_never_begun_anew(healthy):
    (healthy.store.path / "catalog.sqlite3").unlink()
    for discard in (False, True):
        report = repair(healthy, discard=discard)
        assert [one.check for one in report.left] == ["store"]
        assert "backup" in report.left[0].fix
    with pytest.raises(CatalogDamagedError, match="is gone"):
        memory_of(healthy)


def test_a_memory_that_does_not_exist_is_not_made(settings):
    assert repair(settings).ok
    assert not settings.store.path.exists()


def test_an_open_memory_mends_its_rows(healthy):
    before = answers(healthy)
    with memory_of(healthy) as memory:
        FLIPPED_VECTOR(healthy)
        with pytest.raises(StoreError, match="omnimemory repair"):
            memory.search("harbour", mode="vector")
        assert [(deed.part, deed.count) for deed in memory.repair().done] == [("documents", 1)]
        assert memory.search("harbour", mode="vector")
    assert answers(healthy) == before


USER = """
import sys
from pathlib import Path
from omnimemory.storage.catalog import Catalog
catalog = Catalog(Path(sys.argv[1]), check=False)
catalog.meta("key")
print("ready", flush=True)
sys.stdin.readline()
"""


def test_pages_are_not_mended_while_somebody_uses_them(healthy):
    path = healthy.store.path / "catalog.sqlite3"
    child = start(USER, path)
    assert child.stdout.readline() == "ready\n"
    garble_page(healthy, "events_source")
    report = repair(healthy)
    child.communicate("\n", timeout=60)
    assert not report.ok
    assert any("in use" in text for text in report.skipped)
    assert repair(healthy).ok


def test_the_command_mends_and_asks_before_it_gives_anything_up(healthy):
    FLIPPED_VECTOR(healthy)
    done = run(healthy, "repair", "--json")
    assert (done.exit_code, json.loads(done.stdout)["done"][0]["count"]) == (0, 1)
    LOST_EVENT(healthy)
    assert run(healthy, "repair").exit_code == 1
    assert "--yes" in run(healthy, "repair", "--discard").output
    assert value(healthy, "SELECT count(*) FROM events") == 30
    assert run(healthy, "repair", "--discard", "--yes").exit_code == 0
    assert value(healthy, "SELECT count(*) FROM events") == 29


@pytest.mark.slow
def test_texts_are_put_back_from_the_copy_in_the_index(indexed, tmp_path):
    fill(indexed, tmp_path)
    before = answers(indexed)
    in_catalog("UPDATE chunks SET text = 'something else' WHERE id = 2", "UPDATE commands SET text = '' WHERE id = 3")(
        indexed
    )
    report = repair(indexed)
    assert report.ok, report.left
    assert {(deed.part, deed.count) for deed in report.done} >= {("documents", 1), ("commands", 1)}
    assert answers(indexed) == before
