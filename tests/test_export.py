"""Exports: everything, in an order that depends on the content alone, whole or not at all."""

import base64
import hashlib
import json
import os
import signal
import sqlite3
import tracemalloc

import numpy as np
import pytest
from store_cases import add_rows, opened, start
from transfer_cases import another, export_of, exported, fill, lines_of, memory_of

from omnimemory.errors import CatalogDamagedError, StoreError
from omnimemory.transfer.export import export
from omnimemory.transfer.new_file import new_file


@pytest.fixture
def filled(memory, tmp_path):
    fill(memory, tmp_path)
    return memory


def test_an_export_holds_everything_that_is_remembered(filled):
    header, *lines = lines_of(exported(filled))
    status = filled.status()["store"]
    assert header["counts"] == {"sources": 5, "chunks": status["documents"]["chunks"], "events": 8, "commands": 4}
    assert [space["dim"] for space in header["spaces"].values()] == [256, 256]
    assert {line["kind"] for line in lines if "kind" in line} == {"file", "history", "notes"}
    assert [line["text"] for line in lines if line.get("chunk") == "named"] == ["A note with a name."]
    assert {"n": [1, 2]} in [line["metadata"] for line in lines if "chunk" in line]
    events = [line for line in lines if "event" in line]
    assert [event["command"] for event in events if "timestamp" not in event] == [
        "ls -la",
        "cd /srv",
        "ls -la",
        "make test",
    ]
    assert {e["command"]: e["timestamp"] for e in events if e.get("duration") == 3.0} == {"make test": 1700000001.0}
    commands = [line["command"] for line in lines if "command" in line and "event" not in line]
    assert sorted(commands) == ["cd /srv", "git status", "ls -la", "make test"]
    assert lines[-1] == {"end": True}


def test_an_export_is_text_that_no_terminal_obeys(filled):
    data = exported(filled, vectors=True)
    assert data.isascii()
    assert not [byte for byte in data if byte < 0x20 and byte != 0x0A]


def test_vectors_are_exported_on_request_as_they_are_stored(filled):
    lines = lines_of(exported(filled, vectors=True))
    vectors = {line["chunk"]: line["vector"] for line in lines if "chunk" in line}
    found = np.frombuffer(base64.b64decode(vectors["named"]), dtype="<f4")
    assert np.array_equal(found, filled.embeddings.embed_text("A note with a name."))
    assert all("vector" in line for line in lines if "command" in line and "event" not in line)
    assert not any("vector" in line for line in lines_of(exported(filled)))


def test_equal_memories_have_equal_exports_however_they_came_about(settings, tmp_path):
    first, second = settings, another(settings, "second")
    with memory_of(first) as memory:
        fill(memory, tmp_path)
        expected = exported(memory, vectors=True)
    with memory_of(second) as memory:
        memory.add("A note with a name.", ids="named", metadatas={"yes": True, "pi": 3.25})
        memory.add("Something else.", ids="gone")
        memory.ingest_history(tmp_path / "bash_history", shell="bash")
        memory.ingest(tmp_path / "docs")
    with memory_of(second) as memory:
        memory.add(
            ["Call Ada.", "The staging database is rebuilt on Mondays."], metadatas=[{"n": [1, 2]}, {"topic": "db"}]
        )
        fill(memory, tmp_path)
        with memory.store.catalog.transaction() as sql:
            memory.store.documents.delete(sql, list(memory.store.documents.rows_of(["gone"]).values()))
        assert exported(memory, vectors=True) == expected


def test_a_command_that_no_event_speaks_of_is_not_exported(filled):
    before = exported(filled)
    with filled.store.catalog.transaction() as sql:
        filled.store.commands.add(sql, ["left by a run that died"], pending=True)
    assert exported(filled) == before


def test_an_export_is_of_one_moment(filled):
    before = exported(filled)
    written = bytearray()

    class Stream:
        def write(self, data):
            if len(written) > 500 and filled.store.documents.rows_of(["meanwhile"]) == {}:
                filled.add("Stored while the export runs.", ids="meanwhile")
            written.extend(data)

    filled.export(Stream())
    assert bytes(written) == before
    assert exported(filled) != before


def test_a_file_is_private_and_appears_whole(filled, tmp_path):
    target = tmp_path / "memory.jsonl"
    seen = []
    old = os.umask(0)
    try:
        report = filled.export(target, vectors=True, progress=lambda p: seen.append((p.done, p.total, target.exists())))
    finally:
        os.umask(old)
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.read_bytes() == exported(filled, vectors=True)
    assert (report.path, report.bytes, report.vectors) == (str(target), target.stat().st_size, report.chunks + 4)
    assert seen[-1] == (report.chunks + report.commands + report.events + report.sources + 2,) * 2 + (False,)
    assert sorted(path.name for path in tmp_path.glob("memory*")) == ["memory.jsonl"]


def test_a_file_that_exists_is_replaced_on_request_only(filled, tmp_path):
    target = tmp_path / "memory.jsonl"
    target.write_text("mine")
    with pytest.raises(StoreError, match=r"exists already.*--overwrite"):
        filled.export(target)
    assert target.read_text() == "mine"
    filled.export(target, overwrite=True)
    assert json.loads(target.read_bytes().splitlines()[0])["format"] == "omnimemory export"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("missing/memory.jsonl", "cannot be used", id="the folder is missing"),
        pytest.param(".", "no regular file", id="a folder"),
        pytest.param("pipe", "no regular file", id="a pipe"),
    ],
)
def test_a_place_that_cannot_hold_an_export_is_refused(filled, tmp_path, name, message):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match=message):
        filled.export(tmp_path / name, overwrite=True)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("UPDATE chunks SET text = 'A note with a mane.' WHERE chunk_id = 'named'", id="a chunk"),
        pytest.param("UPDATE events SET timestamp = 17 WHERE timestamp = 1700000001", id="an event"),
        pytest.param("UPDATE commands SET text = 'make tets' WHERE text = 'make test'", id="a command"),
        pytest.param("UPDATE vectors SET vector = zeroblob(1024) WHERE item = 1", id="a vector"),
    ],
)
def test_what_is_damaged_is_not_exported(settings, tmp_path, damage):
    target = tmp_path / "memory.jsonl"
    with memory_of(settings) as memory:
        fill(memory, tmp_path)
        connection = sqlite3.connect(settings.store.path / "catalog.sqlite3")
        before = connection.execute("SELECT checksum, id FROM events").fetchall()
        connection.execute(damage)
        connection.executemany("UPDATE events SET checksum = ? WHERE id = ?", before)  # a change by SQL has none
        connection.commit()
        connection.close()
        with pytest.raises(CatalogDamagedError, match="not what was stored"):
            memory.export(target, vectors=True)
    assert not list(tmp_path.glob("memory.jsonl*"))


KILLED = """
import os, signal, sys
from pathlib import Path
from store_cases import opened
from omnimemory.transfer.export import export
with opened(Path(sys.argv[1]), index=False) as store:
    export(store, sys.argv[2], progress=lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_an_export_that_is_killed_leaves_nothing_under_its_name(tmp_path):
    with opened(tmp_path / "store", index=False) as store:
        add_rows(store, 3000)
    target = tmp_path / "memory.jsonl"
    child = start(KILLED, tmp_path / "store", target)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob("memory.jsonl*")
    assert left.name != "memory.jsonl"
    with opened(tmp_path / "store", index=False) as store:
        export(store, target)
    assert [path.name for path in tmp_path.glob("memory.jsonl*")] == ["memory.jsonl"]


def test_an_export_leaves_the_draft_of_another_one_that_is_running(filled, tmp_path):
    target = tmp_path / "memory.jsonl"
    with new_file(target) as file:
        file.write(b"the other one")
        filled.export(target)
        assert len(list(tmp_path.glob("memory.jsonl*"))) == 2
        filled.export(target, overwrite=True)
        target.unlink()
    assert target.read_bytes() == b"the other one"


def test_an_export_holds_few_rows_at_once(tmp_path):
    peaks = []
    for count in (1000, 2000):
        with opened(tmp_path / str(count), index=False) as store:
            add_rows(store, count)
            digest = hashlib.sha256()

            class Stream:
                write = digest.update

            tracemalloc.start()
            export(store, Stream(), vectors=True)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000


def test_reading_only_is_enough(settings, tmp_path):
    with memory_of(settings) as memory:
        memory.add("Once.")
    before = (settings.store.path / "catalog.sqlite3").read_bytes()
    export_of(settings)
    assert (settings.store.path / "catalog.sqlite3").read_bytes() == before
