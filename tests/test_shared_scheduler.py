"""Memories that share a scheduler: one that is closed takes its models with it, and leaves the others theirs."""

from __future__ import annotations

import gc
import json
import threading
import weakref

import psutil
import pytest
from click.testing import CliRunner
from store_cases import start, wait_until

from omnimemory.cli import cli
from omnimemory.memory import Memory
from omnimemory.scheduler.presence import present
from omnimemory.scheduler.scheduler import Scheduler


@pytest.fixture
def beside(settings, tmp_path):
    """Return a function that opens another memory, with vectors of another size, at a shared scheduler."""

    def opened(scheduler, dim, name=None):
        changed = settings.with_values({"store.path": tmp_path / (name or f"of-{dim}")})
        changed = changed.with_values({"embedding.dim": dim}) if dim else changed
        return Memory(settings=changed, scheduler=scheduler)

    return opened


def names(memory):
    return {model.name for model in memory.models.loaded()}


def held(settings):
    return {one["model"] for one in present(settings.schedule.folder)}


@pytest.mark.parametrize("first", [64, 128], ids=["the one that made the scheduler", "the one that was given it"])
def test_when_one_memory_is_closed_the_model_of_the_other_stays(settings, beside, first):
    scheduler = Scheduler()
    scheduler.residency.folder = settings.schedule.folder
    memories = {dim: beside(scheduler, dim) for dim in (64, 128)}
    for memory in memories.values():
        memory.embeddings.embed_text("a text")
    both = {"static:wordllama-64", "static:wordllama-128"}
    assert names(memories[64]) == names(memories[128]) == both
    assert wait_until(lambda: held(settings) == both, 30)
    closed, other = memories.pop(first), memories.popitem()[1]
    left = {other.embeddings.embedder.name}
    closed.close()
    assert not closed.embeddings.embedder.loaded
    assert other.embeddings.embedder.loaded
    assert names(other) == left
    assert wait_until(lambda: held(settings) == left, 30), "what is said of this process is not true"
    other.embeddings.embed_text("another text", use_cache=False)
    other.close()
    assert scheduler.residency.entries() == []
    assert wait_until(lambda: held(settings) == set(), 30)
    closed.close()


def test_idle_models_are_unloaded_after_another_memory_was_closed(settings, beside):
    one = Memory(settings=settings.with_values({"schedule.keep_alive": ["*-64=1.5", "-1"]}))
    with beside(one.scheduler, 64) as other:
        one.embeddings.embed_text("a text")
        other.embeddings.embed_text("a text")
        one.close()
        assert other.embeddings.embedder.loaded
        assert wait_until(lambda: other.scheduler.residency.unloads == {"idle": 1}, 30)
        assert not other.embeddings.embedder.loaded


def test_two_memories_with_the_same_model_each_have_their_own(settings, beside):
    one = Memory(settings=settings)
    with beside(one.scheduler, 256) as other:
        before = other.embeddings.embed_text("a text")
        (single,) = one.models.loaded()
        assert not one.embeddings.embedder.loaded
        assert single.bytes > 1 << 20
        one.embeddings.embed_text("a text", use_cache=False)
        base = one.scheduler.log()[-1].request.base
        assert base == single.bytes, "its copy had to be loaded as well"
        assert [both.bytes for both in one.models.loaded()] == [2 * single.bytes]
        one.embeddings.embed_text("another text", use_cache=False)
        assert one.scheduler.log()[-1].request.base == 0
        one.close()
        assert [left.bytes for left in other.models.loaded()] == [single.bytes]
        assert names(other) == {"static:wordllama-256"}
        assert (other.embeddings.embed_text("a text", use_cache=False) == before).all()
        assert other.models.unload().freed_bytes > 0
        assert names(other) == set()


def test_a_model_that_a_memory_loaded_beside_its_own_goes_with_it(settings, beside):
    with Memory(settings=settings) as one:
        other = beside(one.scheduler, None)
        other.models.load("static:wordllama-128")
        extra = one.scheduler.residency.get("static:wordllama-128")
        assert extra.is_loaded()
        other.close()
        assert not extra.is_loaded()
        assert names(one) == set()
        assert one.models.can_load("static:wordllama-128")[0]


@pytest.mark.slow
def test_fifty_memories_that_come_and_go_leave_nothing(settings, beside):
    with Memory(settings=settings) as one:
        one.embeddings.embed_text("a text")
        residency, seen = one.scheduler.residency, []

        def threads():
            return sum(thread.name == "omnimemory-idle" for thread in threading.enumerate())

        def come_and_go():
            with beside(one.scheduler, 64, "the other") as other:
                other.embeddings.embed_text("a text", use_cache=False)
                seen.append(weakref.ref(other.embeddings))

        come_and_go()
        before = threads(), psutil.Process().num_fds()
        for _ in range(49):
            come_and_go()
        # Other tests share the process, and their files may come and go; one that each memory left would be 49.
        assert threads() <= before[0]
        assert psutil.Process().num_fds() < before[1] + 10
        assert [entry.name for entry in residency.entries()] == ["static:wordllama-256"]
        assert len(residency._models) == 1
        gc.collect()
        assert sum(ref() is not None for ref in seen) == 0
        one.embeddings.embed_text("the last text", use_cache=False)


def test_a_memory_that_is_dropped_and_never_closed_frees_its_model(settings):
    gc.collect()
    gc.disable()
    try:
        memory = Memory(settings=settings)
        memory.embeddings.embed_text("a text")
        service = weakref.ref(memory.embeddings)
        del memory
        assert service() is None
    finally:
        gc.enable()


HOLDER = """
import sys
from omnimemory.config import load_settings
from omnimemory.memory import Memory

with Memory(sys.argv[1], settings=load_settings()) as memory:
    memory.embeddings.embed_text("a text")
    sys.stdin.readline()
"""


def test_the_models_of_other_processes_are_listed(settings, tmp_path):
    holder = start(HOLDER, tmp_path / "store", OMNIMEMORY_CACHE_PATH=str(tmp_path / "cache"))

    def listed():
        return [json.loads(line) for line in CliRunner().invoke(cli, ["models", "ps", "--json"]).stdout.splitlines()]

    assert wait_until(lambda: held(settings), 60)
    (found,) = listed()
    assert (found["name"], found["where"]) == ("static:wordllama-256", f"process {holder.pid}")
    assert 200 < found["seconds_left"] <= 300
    assert found["bytes"] > 1 << 20
    holder.kill()
    holder.communicate()
    assert listed() == []
