"""The index lock: one process at a time, freed by the kernel, never stale, never disturbed by who asks about it."""

import os
import threading

import pytest
from store_cases import finish, run, start, wait_until

from omnimemory.errors import StoreError
from omnimemory.storage.lock import IndexLock

HOLD = """
import sys
from pathlib import Path
from omnimemory.storage.lock import IndexLock
lock = IndexLock(Path(sys.argv[1]))
assert lock.acquire()
print("held", flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
sys.stdin.readline()
"""


def test_a_second_process_waits_or_is_told_who_has_it(tmp_path):
    path = tmp_path / "index.lock"
    child = start(HOLD, path)
    assert child.stdout.readline() == "held\n"
    mine = IndexLock(path)
    assert mine.holder() == child.pid
    assert not mine.acquire()
    assert not mine.held
    child.stdin.write("\n")
    child.stdin.flush()
    assert mine.acquire(timeout=30)
    assert mine.holder() == os.getpid()
    finish(child, "\n")
    mine.release()
    assert mine.holder() is None
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_killed_holder_leaves_no_stale_lock(tmp_path):
    child = start(HOLD, tmp_path / "index.lock")
    assert child.stdout.readline() == "held\n"
    child.kill()
    child.communicate()
    mine = IndexLock(tmp_path / "index.lock")
    assert mine.holder() is None
    assert mine.acquire()
    mine.release()


def test_two_objects_of_one_process_exclude_each_other_too(tmp_path):
    first, second = IndexLock(tmp_path / "lock"), IndexLock(tmp_path / "lock")
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    first.release()
    first.release()
    assert second.acquire()
    second.release()


def test_asking_for_the_holder_makes_no_file_and_takes_no_lock(tmp_path):
    lock = IndexLock(tmp_path / "lock")
    assert lock.holder() is None
    assert not list(tmp_path.iterdir())


def test_those_who_ask_for_the_holder_never_keep_others_from_the_lock(tmp_path):
    path, stop, wrong = tmp_path / "lock", threading.Event(), []

    def ask():
        curious = IndexLock(path)
        while not stop.is_set():
            wrong.extend(holder for holder in [curious.holder()] if holder not in {None, 0, os.getpid()})

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    lock = IndexLock(path)
    try:
        for _ in range(200):
            assert lock.acquire()
            lock.release()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


def test_asking_a_shared_object_for_the_holder_does_not_look_like_holding(tmp_path):
    other = IndexLock(tmp_path / "lock")
    lock, stop = IndexLock(tmp_path / "lock"), threading.Event()
    assert other.acquire()
    other.release()  # there is a file now

    def ask():
        while not stop.is_set():
            lock.holder()

    thread = threading.Thread(target=ask)
    thread.start()
    seen = {lock.held for _ in range(500_000)}
    stop.set()
    thread.join()
    assert seen == {False}
    assert other.acquire()
    other.release()


FORK = """
import os, sys
from pathlib import Path
from omnimemory.storage.lock import IndexLock
lock = IndexLock(Path(sys.argv[1]))
assert lock.acquire()
answer, question = os.pipe(), os.pipe()
if os.fork() == 0:
    print("the child holds it:", lock.held, flush=True)
    lock.release()
    os.write(answer[1], b"x")
    os.read(question[0], 1)
    os._exit(0)
os.read(answer[0], 1)
print("the parent holds it:", lock.held, IndexLock(Path(sys.argv[1])).holder() == os.getpid())
lock.release()
print("after the parent:", IndexLock(Path(sys.argv[1])).holder())
os.write(question[1], b"x")
os.wait()
"""


def test_a_forked_child_neither_has_nor_frees_nor_keeps_the_lock(tmp_path):
    assert run(FORK, tmp_path / "lock").splitlines() == [
        "the child holds it: False",
        "the parent holds it: True True",
        "after the parent: None",
    ]


def test_a_parent_that_dies_frees_the_lock_even_while_its_forked_child_lives(tmp_path):
    script = (
        "import os, sys, signal\nfrom pathlib import Path\nfrom omnimemory.storage.lock import IndexLock\n"
        "lock = IndexLock(Path(sys.argv[1]))\nassert lock.acquire()\nready = os.pipe()\n"
        "if os.fork() == 0:\n    os.write(ready[1], b'x')\n    sys.stdin.readline()\n    os._exit(0)\n"
        "os.read(ready[0], 1)\nprint('forked', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    parent = start(script, tmp_path / "lock")
    assert parent.stdout.readline() == "forked\n"
    assert wait_until(lambda: parent.poll() is not None)
    lock = IndexLock(tmp_path / "lock")
    assert lock.acquire()  # the child still waits for its line
    lock.release()
    parent.communicate("\n")


def test_a_folder_that_is_not_there_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="Check the permissions"):
        IndexLock(tmp_path / "missing" / "lock").acquire()
