"""Leases: what is promised never exceeds what there is, and always comes back."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from omnimemory.errors import ConfigError, MemoryBudgetError
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.policy import decide
from omnimemory.scheduler.probe import Available, Reading
from omnimemory.scheduler.scheduler import Scheduler

MIB = 1 << 20
GIB = 1 << 30
ROOT = Path(__file__).resolve().parents[1]


def fixed(size, total=16 * GIB, used=0):
    return lambda: Available(size, "MemAvailable", total, (Reading("MemAvailable", size, "", total),), used)


def batch(items=1, per_item=100):
    return Request("static", items, 0, per_item)


def test_a_lease_holds_its_bytes_until_the_block_ends():
    scheduler = Scheduler(reserve=0, probe=fixed(1000))
    with scheduler.lease(batch(4)) as lease:
        assert (lease.items, lease.reserved, lease.decision.action) == (4, 400, "grant")
        status = scheduler.status()
        assert (status["outstanding"], status["leases"]) == (400, 1)
        with scheduler.lease(batch(8)) as second:
            assert (second.items, second.reserved) == (4, 400)
            with pytest.raises(MemoryBudgetError), scheduler.lease(batch(1, 201)):
                pytest.fail("there are 200 bytes")
    assert scheduler.status()["outstanding"] == 0


def test_a_lease_comes_back_after_an_error():
    scheduler = Scheduler(reserve=0, probe=fixed(1000))
    with pytest.raises(ZeroDivisionError), scheduler.lease(batch(10)):
        raise ZeroDivisionError
    with scheduler.lease(batch(10)) as lease:
        assert lease.items == 10


def test_a_lease_comes_back_from_a_generator_that_is_closed_early():
    scheduler = Scheduler(reserve=0, probe=fixed(1000))

    def batches():
        with scheduler.lease(batch(10)) as lease:
            yield lease.items

    running = batches()
    assert next(running) == 10
    running.close()
    assert scheduler.status()["outstanding"] == 0


def test_an_error_of_the_probe_locks_nothing():
    answers = [fixed(1000), Path("/nonexistent/sensor").read_bytes]

    def probe():
        return answers.pop()()

    scheduler = Scheduler(reserve=0, probe=probe)
    with pytest.raises(OSError, match="sensor"), scheduler.lease(batch()):
        pytest.fail("no lease without a figure")
    with scheduler.lease(batch(10)) as lease:
        assert lease.items == 10


def test_a_refusal_carries_its_decision_and_is_in_the_log():
    scheduler = Scheduler(reserve=0, probe=fixed(50))
    with pytest.raises(MemoryBudgetError, match="no memory for even one text") as caught, scheduler.lease(batch()):
        pytest.fail("there are 50 bytes")
    assert caught.value.decision == scheduler.log()[-1]
    assert caught.value.decision.action == "refuse"
    assert scheduler.status()["leases"] == 0


def test_the_reserve_is_kept_free():
    for reserve, items in ((0, 10), (500, 5), (950, None)):
        scheduler = Scheduler(reserve=reserve, probe=fixed(1000))
        assert scheduler.status()["reserve"] == reserve
        if items is None:
            with pytest.raises(MemoryBudgetError), scheduler.lease(batch(10)):
                pytest.fail("the reserve was ignored")
        else:
            with scheduler.lease(batch(10)) as lease:
                assert lease.items == items


def test_without_a_reserve_the_default_for_the_machine_is_kept():
    scheduler = Scheduler(probe=fixed(GIB, total=16 * GIB))
    with scheduler.lease(batch(256, MIB)) as lease:
        assert lease.items == 128
    assert scheduler.status()["reserve"] == 16 * GIB // 20


def test_the_most_this_process_may_use_is_kept():
    probe = fixed(GIB, used=300)
    with Scheduler(reserve=0, probe=probe).lease(batch(10)) as lease:
        assert lease.items == 10
    scheduler = Scheduler(reserve=0, max_bytes=1000, probe=probe)
    with scheduler.lease(batch(10)) as lease:
        assert lease.items == 5
        with scheduler.lease(batch(10)) as second:
            assert second.items == 2
    assert scheduler.status()["max_bytes"] == 1000


def test_the_log_keeps_the_last_decisions_in_order_and_they_can_be_replayed():
    scheduler = Scheduler(reserve=0, probe=fixed(1000), keep=3)
    for items in (1, 2, 3, 40):
        with scheduler.lease(batch(items)):
            pass
    log = scheduler.log()
    assert [decision.request.items for decision in log] == [2, 3, 40]
    assert [decision.action for decision in log] == ["grant", "grant", "shrink"]
    assert len({decision.id for decision in log}) == 3
    assert [d.time for d in log] == sorted(d.time for d in log)
    for decision in log:
        again = decide(decision.available, decision.request, decision.limits)
        assert (again.action, again.items, again.reason) == (decision.action, decision.items, decision.reason)


def test_the_status_counts_and_is_json():
    scheduler = Scheduler(reserve=0, probe=fixed(1000))
    for items in (1, 10, 11, 40):
        with scheduler.lease(batch(items)):
            pass
    with pytest.raises(MemoryBudgetError), scheduler.lease(batch(1, 1001)):
        pytest.fail("there are 1000 bytes")
    status = json.loads(json.dumps(scheduler.status()))
    assert (status["granted"], status["shrunk"], status["refused"]) == (2, 2, 1)
    assert (status["available"], status["source"], status["total"]) == (1000, "MemAvailable", 16 * GIB)


class SlowRequest(Request):
    """Lets the other threads run between the reading of the memory and the promise."""

    __slots__ = ()

    def need(self, items):
        time.sleep(0.001)
        return super().need(items)


def test_eight_threads_never_hold_more_than_there_is():
    scheduler = Scheduler(reserve=0, probe=fixed(200))
    asked, outcomes = threading.Barrier(8, timeout=30), []

    def work():
        try:
            with scheduler.lease(SlowRequest("static", 1, 0, 100)) as lease:
                outcomes.append(lease.reserved)
                asked.wait()
        except MemoryBudgetError:
            outcomes.append(0)
            asked.wait()

    run_threads(work)
    assert sorted(outcomes) == [0] * 6 + [100] * 2
    assert scheduler.status()["outstanding"] == 0


def test_eight_threads_with_batches_of_all_sizes_stay_within_the_room():
    room = 1000
    scheduler = Scheduler(reserve=0, probe=fixed(room))
    guard, held, worst, granted = threading.Lock(), [0], [0], [0]

    def work():
        dice = random.Random(threading.get_ident())
        for _ in range(100):
            try:
                with scheduler.lease(batch(dice.randint(1, 20), dice.randint(1, 400))) as lease:
                    with guard:
                        held[0] += lease.reserved
                        worst[0] = max(worst[0], held[0])
                        granted[0] += 1
                    with guard:
                        held[0] -= lease.reserved
            except MemoryBudgetError:
                pass

    run_threads(work)
    assert 0 < worst[0] <= room
    assert granted[0] > 100
    assert scheduler.status()["outstanding"] == 0


def run_threads(work, count=8):
    errors = []

    def guarded():
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors


@pytest.mark.parametrize(
    ("setting", "name"),
    [({"reserve": -1}, "memory.reserve"), ({"max_bytes": 0}, "memory.max_bytes"), ({"keep": 0}, "decisions to keep")],
)
def test_a_senseless_setting_is_an_error_that_names_it(setting, name):
    with pytest.raises(ConfigError, match=name):
        Scheduler(**setting)


def test_the_real_machine_admits_a_small_batch():
    scheduler = Scheduler()
    with scheduler.lease(Request("static", 64, MIB, 4096, 2048)) as lease:
        assert lease.items == 64
        assert lease.reserved == MIB + 64 * 6144
    assert scheduler.status()["source"] != "unknown"


def run_child(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


FORK = """
import os, threading
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.scheduler import Scheduler

inside, go = threading.Event(), threading.Event()
def probe():
    if threading.current_thread() is worker and not inside.is_set():
        inside.set()
        go.wait(30)
    return Available(1000, "fake", 1000)

def work():
    with scheduler.lease(Request("m", 1, 0, 1)):
        pass

scheduler = Scheduler(reserve=0, probe=probe)
worker = threading.Thread(target=work)
with scheduler.lease(Request("m", 6, 0, 100)) as held:
    worker.start()
    inside.wait(30)     # the worker holds the lock of the scheduler now
    child = os.fork()
    if child == 0:
        empty = scheduler.status()["outstanding"] == 0
        with scheduler.lease(Request("m", 10, 0, 100)) as lease:
            full = lease.items == 10 and lease.decision.id != held.decision.id
            os._exit(0 if empty and full else 1)
    go.set()
    worker.join(30)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), scheduler.status()["outstanding"])
print(scheduler.status()["outstanding"])
"""


def test_a_forked_child_starts_with_no_leases_and_no_held_lock():
    assert run_child(FORK) == ["0", "600", "0"]


LIMITED = """
import resource, sys
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.scheduler import Scheduler

items, per_item, limit = 64, 16 << 20, 400 << 20
scheduler = Scheduler()
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    bytearray(items * per_item)
    print("no-limit")
except MemoryError:
    print("MemoryError")
done, sizes = 0, []
while done < items:
    with scheduler.lease(Request("m", items - done, 0, per_item)) as lease:
        room = bytearray(lease.items * per_item)
        done += lease.items
        sizes.append(lease.items)
        del room
print(done, max(sizes), min(sizes), scheduler.log()[0].available.source)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not enforce this limit")
def test_under_a_real_limit_the_work_is_done_in_smaller_batches():
    whole, done, largest, smallest, source = run_child(LIMITED)
    assert whole == "MemoryError"
    assert int(done) == 64
    assert 1 <= int(smallest) <= int(largest) < 25
    assert source == "RLIMIT_DATA"


def test_servers_are_looked_at_only_where_a_batch_does_not_fit():
    asked = []
    scheduler = Scheduler(reserve=0, probe=fixed(1000))
    scheduler.neighbours = lambda: asked.append(None) or []
    with scheduler.lease(batch(4)) as lease:
        assert (lease.items, asked) == (4, [])
    with pytest.raises(MemoryBudgetError), scheduler.lease(batch(1, 2000)):
        pytest.fail("there are 1000 bytes")
    assert asked == [None]
    status = scheduler.status()
    assert (status["granted"], status["refused"], len(scheduler.traces())) == (1, 1, 2)
