"""A process that forks with a memory open: the child is told no, or works; it never hangs and never spoils anything."""

from __future__ import annotations

import json

import pytest
from store_cases import run

from omnimemory.memory import Memory

BUSY_PARENT = """
import json, os, signal, sys, threading, time
from pathlib import Path
import numpy as np
from omnimemory.config import Settings
from omnimemory.errors import StoreError
from omnimemory.memory import Memory

root = Path(sys.argv[1])
values = {"store.path": root / "store", "cache.path": root / "cache", "index.enabled": sys.argv[2] == "index"}
memory = Memory(settings=Settings().with_values({**values, "search.exact_rows": 5, "cache.hot_items": 4}))
memory.add([f"note number {n} about subject {n % 7}" for n in range(200)])
if sys.argv[2] == "index":
    assert memory.warm() is None
expected = memory.embeddings.embed_batch(["one text", "another text"])
stop, number = threading.Event(), iter(range(10**9))

def work():
    while not stop.is_set():
        n = next(number)
        memory.search(f"note {n % 50}", k=3)
        memory.embeddings.embed_batch([f"text {n}", f"more {n}"])
        memory.add(f"added {n}")

def in_the_child():
    signal.alarm(30)  # a child that hangs is killed, and its status tells
    refused = 0
    for use in (lambda: memory.search("note"), lambda: memory.add("x"), memory.status, memory.warm,
                memory.store.drain if False else lambda: memory.store):
        try:
            use()
        except StoreError as error:
            refused += "after fork" in str(error)
    again = memory.embeddings.embed_batch(["one text", "another text"])
    memory.cache.put_many("child", "query", 2, [f"of {os.getpid()}"], np.ones((1, 2)))
    memory.cache.stats()
    memory.scheduler.status()
    memory.close()
    return 0 if refused == 5 and np.array_equal(again, expected) else 3

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
statuses = []
for _ in range(int(sys.argv[3])):
    time.sleep(0.01)
    child = os.fork()
    if not child:
        try:
            os._exit(in_the_child())
        finally:
            os._exit(4)
    statuses.append(os.waitpid(child, 0)[1])
stop.set()
for thread in threads:
    thread.join()
added = next(number)
found = len(memory.search("added", mode="keyword", k=10_000))
sound = memory.store.catalog.value("PRAGMA integrity_check")
memory.close()
print(json.dumps({"statuses": statuses, "added": added, "found": found, "sound": sound}))
"""


@pytest.mark.parametrize(
    ("index", "forks"),
    [
        ("exact", 12),
        pytest.param("exact", 100, marks=pytest.mark.soak),
        pytest.param("index", 60, marks=pytest.mark.soak),
    ],
    ids=["exact", "often", "index"],
)
def test_the_children_of_a_busy_process_are_told_no_or_work_and_it_goes_on(tmp_path, settings, index, forks):
    told = json.loads(run(BUSY_PARENT, tmp_path, index, forks, PYTHONWARNINGS="ignore::DeprecationWarning"))
    assert told["statuses"] == [0] * forks
    assert told["sound"] == "ok"
    assert told["found"] == told["added"] > 0
    with Memory(settings=settings) as memory:
        assert len(memory.search("added", mode="keyword", k=10_000)) == told["found"]


INSIDE_SQLITE = """
import os, signal, sys, threading
from pathlib import Path
import numpy as np
from omnimemory.errors import StoreError
from omnimemory.storage.cache import EmbeddingCache

ARGS, ones = ("space", "document", 4), np.ones((1, 4), np.float32)
cache = EmbeddingCache(Path(sys.argv[1]), hot_items=0)
cache.put_many(*ARGS, ["before"], ones)
inside, leave = threading.Event(), threading.Event()

def stay(file):
    with file.writing():
        inside.set()
        leave.wait()

thread = threading.Thread(target=lambda: cache._connection.attempt(stay, None))
thread.start()
inside.wait()
child = os.fork()
if not child:
    signal.alarm(30)
    found = []
    for each in (cache, EmbeddingCache(Path(sys.argv[1]), hot_items=0)):
        each.put_many(*ARGS, ["in the child"], ones)
        found.append(bool(each.get_many(*ARGS, ["before"])[1].any()))
        try:
            each.delete_many(*ARGS, ["before"])
        except StoreError as error:
            found.append("spawn" in str(error))
        each.close()
    other = EmbeddingCache(Path(sys.argv[2]))
    other.put_many(*ARGS, ["elsewhere"], ones)
    found.append(bool(other.get_many(*ARGS, ["elsewhere"])[1].all()))
    os._exit(0 if found == [False, True, False, True, True] else 3)
status = os.waitpid(child, 0)[1]
leave.set()
thread.join()
cache.put_many(*ARGS, ["after"], ones)
print(status, cache.get_many(*ARGS, ["before", "after", "in the child"])[1].tolist())
"""


def test_a_cache_that_was_inside_sqlite_at_the_fork_is_not_used_in_the_child(tmp_path):
    done = run(INSIDE_SQLITE, tmp_path / "cache", tmp_path / "other", PYTHONWARNINGS="ignore::DeprecationWarning")
    assert done == "0 [True, True, False]\n"


IDLE_CACHE = """
import os, sys
from pathlib import Path
import numpy as np
from omnimemory.storage.cache import EmbeddingCache

ARGS = ("space", "document", 4)
cache = EmbeddingCache(Path(sys.argv[1]), hot_items=0)
cache.put_many(*ARGS, ["before"], np.ones((1, 4)))
if not os.fork():
    fresh = EmbeddingCache(Path(sys.argv[1]), hot_items=0)
    held = [name for name in os.listdir("/proc/self/fd") if "cache.db" in (os.path.exists(f"/proc/self/fd/{name}")
            and os.readlink(f"/proc/self/fd/{name}") or "")]
    fresh.put_many(*ARGS, ["child"], np.ones((1, 4)))
    good = not held and fresh.get_many(*ARGS, ["before", "child"])[1].all()
    fresh.close()
    os._exit(0 if good else 3)
status = os.wait()[1]
print(status, cache.get_many(*ARGS, ["before", "child"])[1].tolist())
"""


def test_a_child_holds_no_connection_of_its_parent_s_cache(tmp_path):
    assert run(IDLE_CACHE, tmp_path / "cache") == "0 [True, True]\n"


HELD = """
import os, signal, sys, threading
from omnimemory.embedders.static import StaticEmbedder

embedder = StaticEmbedder(64)
if sys.argv[1] == "loaded":
    embedder.embed(["warm"], "query")
locks = [embedder._lock, *([embedder._model._lock] if embedder.loaded else [])]
held, leave = threading.Event(), threading.Event()

def hold():
    for lock in locks:
        lock.__enter__()
    held.set()
    leave.wait()
    for lock in locks:
        lock.__exit__(None, None, None)

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if not child:
    signal.alarm(30)
    os._exit(embedder.embed(["one text", "another"], "document").shape != (2, 64))
status = os.waitpid(child, 0)[1]
leave.set()
thread.join()
print(status, embedder.embed(["one text"], "document").shape)
"""


@pytest.mark.parametrize("state", ["fresh", "loaded"])
def test_a_model_that_was_being_loaded_at_the_fork_embeds_in_the_child(state):
    assert run(HELD, state, PYTHONWARNINGS="ignore::DeprecationWarning") == "0 (1, 64)\n"


LEARNING = """
import os, signal, sys, threading
from pathlib import Path
from omnimemory.scheduler.learned import Key, Learned, Shape

key, shape = Key("onnx", "m", "float32", "here"), Shape(1, 1, 100)
learned = Learned(Path(sys.argv[1]))
inside, leave = threading.Event(), threading.Event()

def stay(sql):
    inside.set()
    leave.wait()

thread = threading.Thread(target=lambda: learned._file._try(stay))
thread.start()
inside.wait()
child = os.fork()
if not child:
    signal.alarm(30)
    learned.observe(key, shape, 0, 200, 0, solo=True)
    learned.save()
    os._exit(0 if "forked" in learned.problem and learned.predict(key, shape) == 200 else 3)
status = os.waitpid(child, 0)[1]
leave.set()
thread.join()
learned.observe(key, shape, 0, 300, 0, solo=True)
learned.save()
print(status, learned.problem or "sound", Learned(Path(sys.argv[1])).predict(key, shape))
"""


def test_what_was_being_learned_at_the_fork_does_not_hold_up_the_child(tmp_path):
    assert run(LEARNING, tmp_path / "learned", PYTHONWARNINGS="ignore::DeprecationWarning") == "0 sound 300\n"
