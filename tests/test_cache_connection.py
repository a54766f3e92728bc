from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from cache_cases import ARGS, database, finished, made, names, run

from omnimemory.storage.cache import EmbeddingCache


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def test_eight_threads_share_one_cache(folder):
    vectors, failures, gate = made(400), [], threading.Barrier(8)
    texts = names(400)

    def work(number: int) -> None:
        gate.wait(timeout=30)
        for start in range(0, 400, 20):
            place = (start + number * 50) % 400
            cache.put_many(*ARGS, texts[place : place + 20], vectors[place : place + 20])
            got, hits = cache.get_many(*ARGS, texts)
            if not np.array_equal(got[hits], vectors[hits]) or not hits[place : place + 20].all():
                failures.append((number, place))

    with EmbeddingCache(folder, hot_items=50) as cache:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert failures == []
        assert cache.stats()["items"] == 400


WRITER = """
import sys
from pathlib import Path
import numpy as np
from omnimemory.storage.cache import EmbeddingCache
texts = [f"text {number}" for number in range(2000)]
vectors = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
with EmbeddingCache(Path(sys.argv[1]), hot_items=0) as cache:
    for start in range(0, 2000, 50):
        cache.put_many("space", "document", 64, texts[start:start + 50], vectors[start:start + 50])
        got, hits = cache.get_many("space", "document", 64, texts)
        assert np.array_equal(got[hits], vectors[hits])
        assert hits[:start + 50].all()
"""


def test_processes_that_start_together_write_the_same_vectors(folder):
    writers = [run(WRITER, folder) for _ in range(3)]
    for writer in writers:
        finished(writer)
    with EmbeddingCache(folder) as cache:
        got, hits = cache.get_many("space", "document", 64, names(2000))
        assert hits.all()
        assert np.array_equal(got, made(2000, 64))
        assert cache.stats()["items"] == 2000
    assert [entry.name for entry in folder.iterdir()] == ["cache.db"]


def test_processes_that_find_the_same_broken_file_move_it_once(folder):
    folder.mkdir(mode=0o700)
    (folder / "cache.db").write_bytes(b"not a database" * 5000)
    writers = [run(WRITER, folder) for _ in range(3)]
    outcomes = [writer.communicate(timeout=100)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert sum("damaged" in errors for errors in outcomes) == 1
    assert (folder / "cache.damaged").read_bytes().startswith(b"not a database")
    with EmbeddingCache(folder) as cache:
        assert cache.get_many("space", "document", 64, names(2000))[1].all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_and_its_parent_both_go_on(folder):
    script = """
import os, sys
from pathlib import Path
import numpy as np
from omnimemory.storage.cache import EmbeddingCache
cache = EmbeddingCache(Path(sys.argv[1]), hot_items=0)
scope = ("space", "document", 4)
vectors = np.arange(12, dtype=np.float32).reshape(3, 4) + 1
cache.put_many(*scope, ["before"], vectors[:1])
opened = cache._connection._file
pid = os.fork()
if pid == 0:
    seen = cache.get_many(*scope, ["before"])[1].all() and cache._connection._file is not opened
    cache.put_many(*scope, ["child"], vectors[1:2])
    cache.close()
    os._exit(0 if seen else 3)
cache.put_many(*scope, ["parent"], vectors[2:])
assert os.waitpid(pid, 0)[1] == 0
got, hits = cache.get_many(*scope, ["before", "child", "parent"])
assert hits.all() and (got == vectors).all()
cache.close()
"""
    finished(run(script, folder))
    connection = database(folder)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_process_that_is_killed_while_writing_spoils_nothing(folder):
    writer = run("print('go', flush=True)\n" + WRITER.replace("for start", "while True:\n     for start"), folder)
    assert writer.stdout.readline() == "go\n"
    with EmbeddingCache(folder, hot_items=0) as cache:
        while not cache.get_many("space", "document", 64, ["text 199"])[1].all():
            assert writer.poll() is None
    writer.kill()
    writer.communicate(timeout=30)
    with EmbeddingCache(folder, hot_items=0) as cache:
        got, hits = cache.get_many("space", "document", 64, names(2000))
        assert hits[:200].all()
        assert np.array_equal(got[hits], made(2000, 64)[hits])
