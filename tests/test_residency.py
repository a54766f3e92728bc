"""Models come and go for real: for room, when they are idle, when somebody asks; never while they are in use."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from settings_cases import matters
from store_cases import run, wait_until

from omnimemory.errors import ConfigError, EmbedderError, MemoryBudgetError
from omnimemory.memory import Memory
from omnimemory.model_servers.keep_alive import keep_alive_seconds
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.loadable import Loadable, trim
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.rules import Rules
from omnimemory.scheduler.scheduler import Scheduler

GIB = 1 << 30


class Machine:
    """A machine of so many GiB with models of our own making on it: what is loaded is not available."""

    def __init__(self, total, sizes, **rules):
        self.total, self.sizes, self.loads = total * GIB, {name: size * GIB for name, size in sizes.items()}, []
        self.there, self.lock = set(), threading.Lock()
        self.scheduler = Scheduler(Rules(reserve=0, **rules), probe=self.available)
        for name in sizes:
            self.scheduler.residency.know(self.model(name))

    def available(self):
        used = sum(self.sizes[name] for name in self.there)
        return Available(self.total - used, "a test", self.total, used=used)

    def model(self, name):
        def load():
            with self.lock:
                if name not in self.there:
                    self.loads.append(name)
                    self.there.add(name)

        def unload():
            self.there.discard(name)
            return self.sizes[name]

        size = self.sizes[name]
        return Loadable(name, lambda: name in self.there, load, unload, lambda: (size, 9), size)

    def use(self, name, **kwargs):
        base = 0 if name in self.there else self.sizes[name]
        with self.scheduler.lease(Request(name, 1, base, 1, measured=9), **kwargs):
            self.scheduler.residency.get(name).load()

    def entry(self, name):
        return self.scheduler._admissions.residents.get(name)

    def age(self, *names):
        """Let it be long ago that these were loaded and used."""
        for name in names:
            self.entry(name).since -= 100
            self.entry(name).used -= 100


def test_an_idle_model_goes_when_another_one_needs_its_room():
    machine = Machine(16, {"a": 9, "b": 9})
    machine.use("a")
    machine.age("a")
    machine.use("b")
    assert machine.there == {"b"}
    assert machine.scheduler.residency.unloads == {"room": 1}
    assert [step.action for step in machine.scheduler.traces()[-1].steps] == ["evict", "grant"]


def test_only_as_many_go_as_are_needed_and_the_least_used_first():
    machine = Machine(16, {"a": 4, "b": 4, "c": 4, "d": 7})
    for name in "abcab":
        machine.use(name)
    machine.age("a", "b", "c")
    machine.use("d")
    assert machine.there == {"a", "b", "d"}
    assert machine.scheduler.residency.unloads == {"room": 1}


def test_a_model_in_use_does_not_go():
    machine = Machine(16, {"a": 9, "b": 9})
    machine.use("a")
    machine.age("a")
    with machine.scheduler.lease(Request("a", 1, 0, 1)):
        with pytest.raises(MemoryBudgetError, match=r"a stays: it is in use"):
            machine.use("b")
        assert machine.scheduler.residency.unload("a", "asked") is None
    machine.age("a")
    machine.use("b")
    assert machine.there == {"b"}


def test_what_never_fits_is_refused_and_nothing_goes_for_it():
    machine = Machine(16, {"a": 9, "huge": 40})
    machine.use("a")
    machine.age("a")
    with pytest.raises(MemoryBudgetError):
        machine.use("huge")
    assert machine.there == {"a"}


def test_eight_threads_load_one_model_once():
    machine = Machine(16, {"a": 9})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: machine.use("a", patience=30), range(8)))
    assert machine.loads == ["a"]


def test_a_model_that_cannot_be_unloaded_stops_nothing():
    machine = Machine(16, {"a": 9, "b": 9})
    machine.use("a")
    machine.age("a")

    def refuses():
        raise EmbedderError("no")

    model = machine.model("a")
    machine.scheduler.residency.forget("a")
    machine.scheduler.residency.know(Loadable("a", model.is_loaded, model.load, refuses, model.need, model.footprint))
    machine.age("a")
    with pytest.raises(MemoryBudgetError):
        machine.use("b")
    assert machine.scheduler.residency.unloads == {"failed": 1}


def test_two_models_of_one_name_are_unloaded_together_and_their_leases_count():
    machine = Machine(16, {"a": 2})
    machine.use("a")
    other = {"there": True}
    with machine.scheduler.lease(Request("a", 1, 0, 1)):
        machine.scheduler.residency.know(
            Loadable(
                "a", lambda: other["there"], lambda: None, lambda: other.update(there=False) or 5, lambda: (1, 0), 1
            )
        )
        assert machine.scheduler.residency.unload("a", "asked") is None
    done = machine.scheduler.residency.unload("a", "asked")
    assert (done.freed_bytes, other["there"], machine.there) == (2 * GIB + 5, False, set())


def test_the_model_of_a_memory_is_unloaded_and_comes_back_with_its_next_text(settings):
    with Memory(settings=settings) as memory:
        before = memory.embeddings.embed_text("a text")
        assert [one.where for one in memory.models.loaded()] == ["here"]
        done = memory.models.unload()
        assert not memory.embeddings.embedder.loaded
        assert done.freed_bytes > 1 << 20
        assert memory.models.unload().reason == "it was not loaded"
        assert memory.models.loaded() == []
        after = memory.embeddings.embed_text("a text", use_cache=False)
        assert (before == after).all()


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (90, 90.0),
        (1.5, 1.5),
        ("90", 90.0),
        ("0", 0.0),
        ("1h30m", 5400.0),
        ("1m0.5s", 60.5),
        ("250ms", 0.25),
        ("-1", None),
        (-1, None),
        ("-5m", None),
    ],
)
def test_how_long_a_model_stays_is_said_in_seconds_or_as_a_duration(given, seconds):
    assert keep_alive_seconds(given) == pytest.approx(seconds)


@matters("schedule.keep_alive")
def test_an_idle_model_is_unloaded_when_its_time_is_over_and_not_before(settings):
    for kept, stays in ((["0.05"], False), (["static:*=-1", "0"], True), (["onnx:*=0"], True)):
        with Memory(settings=settings.with_values({"schedule.keep_alive": kept})) as memory:
            memory.embeddings.embed_text("a text", use_cache=False)
            embedder, unloads = memory.embeddings.embedder, memory.scheduler.residency.unloads
            if stays:
                assert memory.models.unload_idle() == []
                assert embedder.loaded
            else:
                assert wait_until(lambda u=unloads: u["idle"] == 1, 30)
                assert not embedder.loaded
                memory.embeddings.embed_text("another text", use_cache=False)
                assert wait_until(lambda u=unloads: u["idle"] == 2, 30)
    with pytest.raises(ConfigError, match=r"schedule\.keep_alive: 'soon'"):
        Memory(settings=settings.with_values({"schedule.keep_alive": ["static:*=soon"]}))


def test_keep_alive_runs_from_the_end_of_the_last_use():
    machine = Machine(16, {"a": 1}, keep_alive=(("*", 0.0),))
    with machine.scheduler.lease(Request("a", 1, GIB, 1)):
        machine.scheduler.residency.get("a").load()
        assert machine.scheduler.residency.unload_idle() == []
        assert machine.there == {"a"}
    assert wait_until(lambda: not machine.there, 30)


@matters("schedule.pin")
def test_a_pinned_model_is_not_unloaded_by_itself(settings):
    for pinned in (["static:*"], []):
        with Memory(settings=settings.with_values({"schedule.keep_alive": ["0"], "schedule.pin": pinned})) as memory:
            memory.embeddings.embed_text("a text", use_cache=False)
            unloads = memory.scheduler.residency.unloads
            if pinned:
                assert memory.models.unload_idle() == []
                memory.models.pin(pinned=False)
                memory.embeddings.embed_text("a text", use_cache=False)
            assert wait_until(lambda u=unloads: u["idle"] >= 1, 30)


@matters("schedule.max_loaded")
def test_no_more_models_are_loaded_than_may_be(settings):
    for most, left in ((1, 1), (2, 2)):
        with Memory(settings=settings.with_values({"schedule.max_loaded": most, "schedule.wait": 0})) as memory:
            memory.embeddings.embed_text("a text", use_cache=False)
            entry = memory.scheduler._admissions.residents.get(memory.embeddings.embedder.name)
            entry.since -= 100
            memory.models.load("static:wordllama-64", force=True)
            assert len(memory.models.loaded()) == left


@matters("schedule.priority")
def test_of_two_idle_models_the_one_with_the_lower_priority_goes(settings):
    for ranks, stays in ((["*-64=1"], 64), (["*-128=1", "*=0"], 128)):
        changed = settings.with_values({"schedule.max_loaded": 2, "schedule.wait": 0, "schedule.priority": ranks})
        with Memory(settings=changed) as memory:
            for dim in (64, 128):
                memory.models.load(f"static:wordllama-{dim}")
                memory.scheduler._admissions.residents.get(f"static:wordllama-{dim}").since -= 100
            memory.models.load(force=True)
            names = {one.name for one in memory.models.loaded()}
            assert names == {memory.embeddings.embedder.name, f"static:wordllama-{stays}"}
    with pytest.raises(ConfigError, match=r"'onnx' in schedule\.priority"):
        Memory(settings=settings.with_values({"schedule.priority": ["onnx"]}))


def test_memories_that_share_a_scheduler_share_their_room(settings, tmp_path):
    changed = settings.with_values({"schedule.max_loaded": 1, "schedule.wait": 0})
    with Memory(settings=changed) as one:
        other = changed.with_values({"store.path": tmp_path / "other", "embedding.dim": 64})
        with Memory(settings=other, scheduler=one.scheduler) as two:
            one.embeddings.embed_text("a text")
            with pytest.raises(MemoryBudgetError, match="1 models are loaded"):
                two.embeddings.embed_text("a text")
            one.scheduler._admissions.residents.get(one.embeddings.embedder.name).since -= 100
            two.embeddings.embed_text("a text")
            assert (one.embeddings.embedder.loaded, two.embeddings.embedder.loaded) == (False, True)


def test_after_a_move_to_another_model_that_is_the_one_it_knows(settings):
    with Memory(settings=settings) as memory:
        memory.add("a note")
        assert memory.models.plan().request.model == "static:wordllama-256"
        memory.reembed(dim=128)
        assert memory.models.plan().request.model == "static:wordllama-128"
        memory.models.load()
        assert [one.name for one in memory.models.loaded()] == ["static:wordllama-128"]


def test_asking_whether_a_model_can_be_loaded(settings):
    with Memory(settings=settings) as memory:
        can, reason = memory.models.can_load("static:wordllama-64")
        assert can, reason
        assert memory.models.can_load("no-such-model")[0] is False
        assert "no embedding model" in memory.models.can_load("no-such-model")[1]
        assert memory.models.can_load("openai:x")[0]
        memory.models.load()
        assert "is loaded" in memory.models.can_load("")[1]
        assert memory.embeddings.embedder.name in [one["name"] for one in memory.models.available()]
    tight = settings.with_values({"schedule.max_model_bytes": "1MiB"})
    with Memory(settings=tight) as memory:
        can, reason = memory.models.can_load("")
        assert not can
        assert "1.0 MiB" in reason
        assert memory.models.preload() is False
        with pytest.raises(MemoryBudgetError):
            memory.models.load(force=True)


def test_a_plan_says_what_would_be_decided_and_promises_nothing(settings):
    with Memory(settings=settings) as memory:
        small, large = memory.models.plan(items=1), memory.models.plan(items=10_000)
        assert small.runs
        assert small.need < large.need
        status = memory.models.status()
        assert (status["outstanding"], status["leases"], status["loaded"]) == (0, 0, [])


def test_trimming_gives_back_what_nobody_uses():
    gc.disable()
    try:
        ring = [bytearray(64 << 20)]
        ring.append(ring)
        ring[0][::4096] = b"x" * len(ring[0][::4096])
        del ring
        assert trim() > 48 << 20
    finally:
        gc.enable()


def test_the_thread_that_unloads_ends_with_the_memory_and_starts_only_with_a_model(settings):
    def watching():
        return [thread for thread in threading.enumerate() if thread.name == "omnimemory-idle"]

    old = set(watching())
    with Memory(settings=settings) as memory:
        memory.search("anything", mode="keyword")
        assert set(watching()) == old
        memory.embeddings.embed_text("a text")
        assert len(set(watching()) - old) == 1
    assert wait_until(lambda: not set(watching()) - old, 10)


FORKED = """
import os, signal, sys, time
from pathlib import Path
from omnimemory.config import Settings
from omnimemory.embedders.static import StaticEmbedder
from omnimemory.embedding_service import EmbeddingService
from omnimemory.scheduler.rules import Rules
from omnimemory.scheduler.scheduler import Scheduler

service = EmbeddingService(StaticEmbedder(64), cache=None, scheduler=Scheduler(Rules(keep_alive=(("*", 0.3),))))
service.embed_text("warm")
child = os.fork()
if not child:
    signal.alarm(30)
    assert service.embedder.loaded
    service.embed_text("in the child")
    while service.embedder.loaded:
        time.sleep(0.01)
    os._exit(0)
print(os.waitpid(child, 0)[1])
while service.embedder.loaded:
    time.sleep(0.01)
"""


def test_a_forked_child_unloads_its_own_idle_models():
    assert run(FORKED, PYTHONWARNINGS="ignore::DeprecationWarning") == "0\n"


def test_a_scheduler_that_nobody_uses_is_collected_and_its_thread_ends():
    machine = Machine(16, {"a": 1})
    machine.use("a")
    thread, wake = machine.scheduler.residency._thread, machine.scheduler.residency._wake
    gone = weakref.ref(machine.scheduler)
    del machine
    gc.collect()
    assert gone() is None
    wake.set()
    thread.join(30)
    assert not thread.is_alive()
