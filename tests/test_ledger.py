"""The file of promises: processes see each other's, the dead ones' are purged, and a bad file is said."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from omnimemory.errors import MemoryBudgetError
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.ledger import Ledger, process_start
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.scheduler import Scheduler

ROOT = Path(__file__).resolve().parents[1]
HOLDER = """
import sys
from pathlib import Path
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.ledger import Ledger
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.scheduler import Scheduler

scheduler = Scheduler(reserve=0, probe=lambda: Available(1000, "fake", 1000), ledger=Ledger(Path(sys.argv[1])))
with scheduler.lease(Request("m", 1, 0, int(sys.argv[2]))):
    print("held", flush=True)
    sys.stdin.readline()
print("given back", flush=True)
sys.stdin.readline()
"""


def scheduler(folder, room=1000, patience=0.0):
    return Scheduler(reserve=0, probe=lambda: Available(room, "fake", room), ledger=Ledger(folder), patience=patience)


def holder(folder, size):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert child.stdout.readline() == "held\n"
    return child


def end(child):
    child.kill()
    child.communicate(timeout=30)


def ask(of, size, items=1, **kwargs):
    with of.lease(Request("m", items, 0, size), **kwargs) as lease:
        return lease.items * size


def test_what_another_process_was_promised_is_not_promised_again(tmp_path):
    child = holder(tmp_path, 700)
    mine = scheduler(tmp_path)
    try:
        assert ask(mine, 300) == 300
        assert ask(mine, 100, items=8) == 200  # halved: 8, 4, 2
        with pytest.raises(MemoryBudgetError, match="promised to running batches"):
            ask(mine, 301)
        assert mine.status()["others"] == [{"pid": child.pid, "reserved": 700}]
        print("give it back", file=child.stdin, flush=True)
        assert child.stdout.readline() == "given back\n"
        assert ask(mine, 1000) == 1000
        assert mine.status()["others"] == []
    finally:
        end(child)


def test_a_holder_that_is_killed_frees_its_lease_at_once(tmp_path):
    child = holder(tmp_path, 900)
    mine = scheduler(tmp_path)
    try:
        with pytest.raises(MemoryBudgetError):
            ask(mine, 500)
        os.kill(child.pid, signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, though nobody has asked for its exit code yet
        assert ask(mine, 1000) == 1000
        assert mine.status()["dead_purged"] == 1
    finally:
        end(child)


def test_a_request_waits_until_another_process_gives_back(tmp_path):
    child = holder(tmp_path, 900)
    mine = scheduler(tmp_path, patience=60.0)
    try:
        print("give it back", file=child.stdin, flush=True)
        assert ask(mine, 1000) == 1000
    finally:
        end(child)


def test_two_schedulers_of_one_process_see_each_other(tmp_path):
    first, second = scheduler(tmp_path), scheduler(tmp_path)
    with first.lease(Request("m", 1, 0, 600)):
        with pytest.raises(MemoryBudgetError):
            ask(second, 500)
        assert ask(second, 400) == 400
    assert ask(second, 1000) == 1000


def test_an_id_that_is_used_again_is_not_the_process_that_had_it(tmp_path):
    ledger = Ledger(tmp_path)
    with ledger.locked() as shared:
        shared.write(500)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    assert int.from_bytes(data[64:72], "little") == os.getpid()
    data[72:80] = (process_start(os.getpid()) + 1).to_bytes(8, "little")
    path.write_bytes(data)
    with Ledger(tmp_path).locked() as shared:
        assert (shared.outstanding, shared.purged) == (0, 1)


def test_a_process_of_another_container_counts_for_a_while(tmp_path):
    ledger = Ledger(tmp_path)
    with ledger.locked() as shared:
        shared.write(500)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[64:72] = (1 << 40).to_bytes(8, "little")  # an id that no process here can have
    data[80:88] = (12345).to_bytes(8, "little")
    path.write_bytes(data)
    with Ledger(tmp_path).locked() as shared:
        assert shared.outstanding == 500
    data[120:128] = bytes(8)  # written when the machine was started
    path.write_bytes(data)
    with Ledger(tmp_path).locked() as shared:
        assert shared.outstanding == (0 if __import__("time").monotonic() > 600 else 500)


def test_a_forked_child_has_promises_of_its_own(tmp_path):
    mine = scheduler(tmp_path)
    with mine.lease(Request("m", 1, 0, 700)):
        child = os.fork()
        if child == 0:
            good = mine.status()["outstanding"] == 0
            try:
                ask(mine, 400)
            except MemoryBudgetError:
                good = good and ask(mine, 300) == 300
            else:
                good = False
            os._exit(0 if good else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert mine.status()["outstanding"] == 700
        with pytest.raises(MemoryBudgetError):
            ask(mine, 301)
    assert ask(mine, 1000) == 1000


def _spawned(folder, found):
    try:
        ask(scheduler(folder), 400)
    except MemoryBudgetError:
        found.put(ask(scheduler(folder), 300))


def test_a_spawned_child_sees_its_parents_promises(tmp_path):
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    with scheduler(tmp_path).lease(Request("m", 1, 0, 700)):
        child = context.Process(target=_spawned, args=(tmp_path, found))
        child.start()
        assert found.get(timeout=60) == 300
        child.join(60)


def unusable(tmp_path, kind):
    folder = tmp_path / "leases"
    if kind == "a file in its place":
        folder.write_text("")
    elif kind == "a link":
        folder.mkdir()
        with Ledger(folder).locked():
            pass
        (path,) = folder.iterdir()
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "locked").mkdir(mode=0o500)
        folder = tmp_path / "locked" / "leases"
        if os.getuid() == 0:
            folder = Path("/proc/self/leases")  # where even root can make nothing
    return folder


@pytest.mark.parametrize("kind", ["a file in its place", "a link", "a read-only folder"])
def test_without_its_file_a_scheduler_leaves_half_to_others_and_says_so(tmp_path, kind):
    alone = scheduler(unusable(tmp_path, kind))
    assert ask(alone, 500) == 500
    with pytest.raises(MemoryBudgetError, match="half of it left to other processes, because the file of promises"):
        ask(alone, 501)
    with alone.lease(Request("m", 1, 0, 400)), pytest.raises(MemoryBudgetError):
        ask(alone, 400)
    assert "cannot be used" in alone.status()["problem"]
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("damage", [b"", b"x" * 10, b"\xff" * 5000, b"omnimemory leases 1" + b"\xff" * 300])
def test_a_damaged_file_is_begun_anew(tmp_path, damage):
    mine = scheduler(tmp_path)
    ask(mine, 1)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    assert ask(mine, 1000) == 1000
    with mine.lease(Request("m", 1, 0, 600)):
        assert scheduler(tmp_path).status()["others"] == []  # of the same process
        with pytest.raises(MemoryBudgetError):
            ask(scheduler(tmp_path), 500)


def test_a_file_that_was_deleted_is_made_again(tmp_path):
    mine = scheduler(tmp_path)
    ask(mine, 1)
    next(tmp_path.iterdir()).unlink()
    with mine.lease(Request("m", 1, 0, 600)), pytest.raises(MemoryBudgetError):
        ask(scheduler(tmp_path), 500)


def test_the_file_is_private_and_looking_does_not_make_it(tmp_path):
    folder = tmp_path / "state" / "leases"
    mine = scheduler(folder)
    mine.status()
    assert not folder.exists()
    ask(mine, 1)
    (path,) = folder.iterdir()
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(path.stat().st_mode)) == (0o700, 0o600)
