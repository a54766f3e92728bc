"""Checksums notice any flipped bit, and a single one is put right; the migration computes the same ones."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest
from alembic import command
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine
from test_catalog import alembic_configuration

from omnimemory.storage.bit_errors import mended_row, mended_vector
from omnimemory.storage.catalog import HEAD, Catalog
from omnimemory.storage.checksums import (
    chunk_checksum,
    event_checksum,
    source_checksum,
    text_checksum,
    vector_checksums,
)
from omnimemory.storage.commands import command_id
from omnimemory.storage.vectors import wrong_vectors
from omnimemory.storage.verification import content_problems

VECTORS = np.random.default_rng(5).normal(size=(7, 64)).astype(np.float32)


def check(item, vector):
    return int(vector_checksums([item], vector[np.newaxis])[0])


def flipped(vector, *bits):
    words = vector.copy().view(np.uint32)
    for bit in bits:
        words[bit // 32] ^= np.uint32(1 << bit % 32)
    return words.view(np.float32)


@given(st.integers(0, 64 * 32 - 1), st.integers(0, 2**40))
def test_every_flipped_bit_of_a_vector_is_noticed_and_put_right(bit, item):
    damaged = flipped(VECTORS[0], bit)
    assert check(item, damaged) != check(item, VECTORS[0])
    assert mended_vector(item, damaged, check(item, VECTORS[0])).tobytes() == VECTORS[0].tobytes()


@given(st.sets(st.integers(0, 64 * 32 - 1), min_size=2, max_size=64))
def test_several_flipped_bits_are_noticed_and_never_put_right_wrongly(bits):
    damaged = flipped(VECTORS[0], *bits)
    assert check(1, damaged) != check(1, VECTORS[0])
    mended = mended_vector(1, damaged, check(1, VECTORS[0]))
    assert mended is None or mended.tobytes() == VECTORS[0].tobytes()


def test_a_flipped_checksum_leaves_the_vector():
    for bit in range(64):
        wrong = (check(3, VECTORS[1]) ^ (1 << bit)) & (2**64 - 1)
        wrong -= 2**64 * (wrong >> 63)
        assert mended_vector(3, VECTORS[1], wrong).tobytes() == VECTORS[1].tobytes()


def test_swapped_zeroed_and_misshapen_vectors_are_noticed():
    items = [1, 2, 3, 4, 5]
    checks = vector_checksums(items, VECTORS[:5]).tolist()
    blobs = [vector.tobytes() for vector in VECTORS[:5]]
    assert wrong_vectors(64, items, blobs, checks)[1] == []
    assert wrong_vectors(64, items, blobs, [None] * 5)[1] == []
    spoilt = [blobs[1], blobs[0], bytes(256), blobs[3][:-4], "text"]
    vectors, wrong = wrong_vectors(64, items, spoilt, checks)
    assert wrong == [0, 1, 2, 3, 4]
    assert vectors.shape == (5, 64)
    assert wrong_vectors(64, ["x", None, *items[2:]], blobs, [*checks[:4], "y"])[1] == [0, 1, 4]


ROWS = {
    "chunk": (chunk_checksum, ("c" * 32, 0, 900, "Undo", '{"n": 1}', "ünïcode and more", 7)),
    "event": (event_checksum, (1.7e9, "/srv", None, 2.5, "s1", None, "zsh", b"\x00\x01key", 3, 4, 5)),
    "source": (source_checksum, ('{"stat": [1, 2]}', "/home/ada/notes.md", "file")),
}


@pytest.mark.parametrize("kind", ROWS)
def test_every_flipped_bit_of_a_text_is_noticed_and_put_right(kind):
    checksum, row = ROWS[kind]
    known = checksum(*row)
    for place, value in enumerate(row):
        if isinstance(value, str | bytes):
            data = value.encode() if isinstance(value, str) else value
            for bit in range(8 * len(data)):
                changed = bytearray(data)
                changed[bit // 8] ^= 1 << bit % 8
                wrong = bytes(changed) if isinstance(value, bytes) else changed.decode("utf-8", "surrogateescape")
                spoilt = (*row[:place], wrong, *row[place + 1 :])
                assert checksum(*spoilt) != known
                assert mended_row(spoilt, known, checksum) == row


@pytest.mark.parametrize(
    ("place", "wrong"),
    [(2, 0), (3, 2.5000000000000004), (3, -2.5), (8, 2), (10, 5 ^ 2**40), (0, 8.5e8)],
    ids=["nothing is 0", "last bit", "sign", "a row", "a high bit", "the exponent"],
)
def test_numbers_are_put_right_as_well(place, wrong):
    checksum, row = ROWS["event"]
    spoilt = (*row[:place], wrong, *row[place + 1 :])
    assert mended_row(spoilt, checksum(*row), checksum) == row


def test_what_is_wrong_in_two_places_is_left_alone():
    checksum, row = ROWS["chunk"]
    assert mended_row((*row[:5], "ünïcodf and morf", 7), checksum(*row), checksum) is None
    assert mended_row(row, "no number", checksum) is None


def test_parts_do_not_run_into_each_other():
    assert chunk_checksum("a", 1, 2, "bc", "d", "", 1) != chunk_checksum("a", 1, 2, "b", "cd", "", 1)
    assert event_checksum(5, "", 1, 2, None, "", "", b"", 1, 2, 3) == event_checksum(
        5.0, "", 1, 2.0, None, "", "", b"", 1, 2, 3
    )
    assert event_checksum(float("nan"), *[None] * 6, b"", 1, 2, 3) == event_checksum(*[None] * 7, b"", 1, 2, 3)


def test_an_older_catalog_gets_the_checksums_that_a_new_one_has(tmp_path):
    path = tmp_path / "catalog.sqlite3"
    engine = create_engine(f"sqlite:///{path}")
    config = alembic_configuration()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    engine.dispose()
    fill_as_0002(path)
    catalog = Catalog(path)
    assert catalog.value("SELECT version_num FROM alembic_version") == HEAD
    for table in ("chunks", "events", "sources", "vectors"):
        assert catalog.value(f"SELECT count(*) FROM {table} WHERE checksum IS NULL") == 0
    assert list(content_problems(catalog)) == []
    assert catalog.meta("key_checksum") == str(text_checksum(catalog.meta("key")))
    with catalog.transaction() as sql:
        sql.execute("UPDATE chunks SET heading = 'changed' WHERE id = 2")
        sql.execute("UPDATE vectors SET item = 9 WHERE row = 1")
        sql.execute("UPDATE events SET cwd = '/tmp' WHERE id = 1")
        sql.execute("UPDATE events SET key = x'77' WHERE id = 2")  # by somebody who knows of no checksums
        sql.execute("UPDATE sources SET state = '{\"n\": 1}' WHERE id = 1")  # likewise
    found = {problem.part: problem.rows for problem in content_problems(catalog)}
    assert found == {"chunks": (2,), "vectors": (1,), "events": (1,)}
    catalog.close()


def fill_as_0002(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as sql:
        sql.execute("INSERT INTO meta VALUES ('key', ?)", ("ab" * 32,))
        sql.execute("INSERT INTO spaces VALUES (1, 'f', 'm', 64)")
        sql.execute("INSERT INTO collections (id, name, space_id) VALUES (1, 'documents', 1)")
        sql.execute("INSERT INTO sources (uri, kind, state) VALUES ('/a', 'file', '{}')")
        chunks = [(f"id{n}", 1, n, n + 5, f"täxt {n}", "", "{}") for n in range(3)]
        columns = "chunk_id, source_id, start_char, end_char, text, heading, metadata"
        sql.executemany(f"INSERT INTO chunks ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", chunks)
        sql.execute("INSERT INTO commands (command_id, text) VALUES (?, 'ls')", (command_id("ls"),))
        events = [(bytes([n]), 1, 1, n, 1.5e9 + n, None, n) for n in range(3)]
        columns = "key, command_row, source_id, position, timestamp, cwd, exit_code"
        sql.executemany(f"INSERT INTO events ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", events)
        vectors = [(1, n + 1, VECTORS[n].tobytes()) for n in range(3)]
        sql.executemany("INSERT INTO vectors (collection_id, item, vector) VALUES (?, ?, ?)", vectors)
