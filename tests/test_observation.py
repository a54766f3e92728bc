"""Windows around real work of a known size: the peak is seen, an arena's rest is counted, and company is marked."""

from __future__ import annotations

import mmap
import threading
import time

import pytest

from omnimemory.scheduler import own_memory
from omnimemory.scheduler.learned import Key, Learned, Shape
from omnimemory.scheduler.observation import Observer
from omnimemory.scheduler.out_of_memory import RanOutError, is_out_of_memory
from omnimemory.scheduler.own_memory import PeakSampler, held

MIB = 1 << 20
PLENTY = 1 << 40
KEY = Key("a", "b", "c", "d")
SHAPE = Shape(8, 512, 64 * MIB)


def taken(size, passes=1) -> mmap.mmap:
    """Return memory that was really written to, and really goes back when it is closed.

    Several passes take long enough for another thread to get its turn, which Python gives every 5 ms.
    """
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for _ in range(passes):
        for place in range(0, size, 4096):
            memory[place] = 1
    return memory


def needs(learned, shape=SHAPE):
    return [one for one in learned._known(KEY).observations if bool(one.items) == bool(shape.items)]


def test_private_memory_counts_what_is_written_and_not_what_is_mapped(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(32 * MIB))
    before = held()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[::4096]) == 0
        during = held()
    assert during.private - before.private < 8 * MIB
    assert during.shared - before.shared > 28 * MIB
    memory = taken(32 * MIB)
    assert 31 * MIB <= held().private - before.private <= 40 * MIB
    memory.close()


def test_a_peak_that_is_gone_at_the_end_is_seen():
    with PeakSampler() as sampler:
        taken(48 * MIB, passes=40).close()
    assert 47 * MIB <= sampler.peak - sampler.before <= 60 * MIB
    assert sampler.after - sampler.before < 8 * MIB


def test_long_work_is_looked_at_seldom_and_loading_all_the_time(monkeypatch):
    """Every look costs the work a little; when a model is ready has to be seen at once."""
    looks = []
    monkeypatch.setattr(own_memory, "held", lambda: looks.append(1) or held())
    with PeakSampler():
        time.sleep(1.2)
    long = len(looks)
    with PeakSampler(ready=lambda: False):
        time.sleep(1.2)
    assert 2 < long < 1.2 / 0.05 + 80  # about 80 until each pause is the longest one
    assert len(looks) - long > long


def test_what_a_batch_takes_for_a_moment_is_what_it_needs():
    learned = Learned(None)
    with Observer(learned).window(KEY, SHAPE, PLENTY):
        taken(48 * MIB, passes=40).close()
    (one,) = needs(learned)
    assert (one.items, one.tokens, one.prior, one.solo) == (8, 512, 64 * MIB, True)
    assert 47 * MIB <= one.need <= 60 * MIB


def test_what_an_arena_keeps_counts_for_batches_as_large_and_smaller_ones_say_nothing():
    learned = Learned(None)
    observer = Observer(learned)
    arena = []
    for size, prior in ((32, 64), (0, 20), (0, 60), (0, 20), (32, 64)):
        with observer.window(KEY, Shape(8, 512, prior * MIB), PLENTY):
            if size:
                arena.append(taken(size * MIB))
    assert [(one.prior // MIB, round(one.need / MIB / 32)) for one in needs(learned)] == [(64, 1), (60, 1), (64, 2)]
    for memory in arena:
        memory.close()


def test_where_memory_is_scarce_no_thread_is_started_and_only_what_stays_is_seen():
    learned, seen = Learned(None), []
    observer = Observer(learned)
    with observer.window(KEY, SHAPE, spare=0):
        taken(48 * MIB).close()
        seen += [thread.name for thread in threading.enumerate()]
        arena = taken(80 * MIB)
    assert "omnimemory-peak" not in seen
    assert [one.need >= 79 * MIB for one in needs(learned)] == [True]  # above the prior, so it counts
    arena.close()


def test_small_batches_are_not_worth_a_thread():
    seen = []
    for prior in (MIB, 64 * MIB):
        with Observer(Learned(None)).window(KEY, Shape(8, 512, prior), PLENTY):
            seen.append("omnimemory-peak" in [thread.name for thread in threading.enumerate()])
    assert seen == [False, True]


def test_loading_and_the_first_batch_are_told_apart():
    learned, loaded = Learned(None), []
    load, ready = Shape(0, 0, 100 * MIB), lambda: bool(loaded)
    with Observer(learned).window(KEY, SHAPE, PLENTY, loading=load, ready=ready):
        loaded.append(taken(64 * MIB))
        taken(4096, passes=400_000).close()  # the thread has its turn between loading and working
        taken(24 * MIB, passes=80).close()
    (of_loading,), (one,) = needs(learned, load), needs(learned)
    assert 63 * MIB <= of_loading.need <= 76 * MIB
    assert 23 * MIB <= one.need <= 36 * MIB
    loaded.pop().close()


def test_a_batch_that_fails_teaches_nothing_and_leaves_nothing_open():
    learned = Learned(None)
    observer = Observer(learned)
    with pytest.raises(ZeroDivisionError), observer.window(KEY, SHAPE, PLENTY):
        taken(48 * MIB).close() or 1 / 0
    assert needs(learned) == []
    with observer.window(KEY, SHAPE, PLENTY) as window:
        pass
    assert window.solo


def test_batches_side_by_side_are_marked():
    learned = Learned(None)
    observer = Observer(learned)
    with observer.window(KEY, SHAPE, PLENTY), observer.window(KEY, SHAPE, PLENTY):
        memory = taken(48 * MIB)
    memory.close()
    assert {one.solo for one in needs(learned)} == {False}
    assert learned.count(KEY, SHAPE) == 0


def caused_by(error):
    outer = RanOutError("static", 3)
    outer.__cause__ = error
    return outer


class RuntimeException(Exception):  # noqa: N818 - named and placed like ONNX Runtime's
    __module__ = "onnxruntime.capi.onnxruntime_pybind11_state"


OUT = {
    "python": MemoryError(),
    "onnx-arena": RuntimeException("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 9"),
    "onnx-c++": RuntimeException("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"),
    "mlx-processor": RuntimeError("[malloc_or_wait] Unable to allocate 274877906944 bytes."),
    "mlx-metal": RuntimeError("[metal::malloc] Attempting to allocate 99 bytes which is greater than the maximum"),
    "torch": RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: out of memory"),
    "no-stack": RuntimeError("can't start new thread"),
    "system": OSError(12, "Cannot allocate memory"),
    "wrapped": caused_by(MemoryError()),
}


@pytest.mark.parametrize("error", OUT.values(), ids=OUT)
def test_memory_that_ran_out_is_recognised(error):
    assert is_out_of_memory(error)


OTHER = {
    "a-bug": RuntimeError("shapes differ"),
    "an-interrupt": KeyboardInterrupt("out of memory"),
    "our-own-words-about-a-text": RanOutError("a model named out of memory", 1),
}


@pytest.mark.parametrize("error", OTHER.values(), ids=OTHER)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)
