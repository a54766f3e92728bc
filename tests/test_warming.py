"""A model that regularly follows another is loaded ahead, into free memory, and what that was worth is counted."""

from __future__ import annotations

import pytest
from settings_cases import matters
from store_cases import wait_until
from test_residency import GIB, Machine

from omnimemory.memory import Memory
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.journal import Journal
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.scheduler import Scheduler
from omnimemory.scheduler.warming import Warming


def followed(machine, times=3):
    for _ in range(times):
        machine.use("a")
        machine.use("b")


@pytest.fixture
def machine():
    made = Machine(16, {"a": 4, "b": 4, "c": 4}, keep_alive=(("*", None),))
    followed(made)
    made.scheduler.residency.unload("b", "asked")
    return made


def test_what_followed_three_times_is_loaded_ahead_and_used(machine):
    machine.use("a")
    machine.scheduler.residency.warms_up = True
    assert machine.scheduler.residency.warm_up() == "b"
    assert machine.there == {"a", "b"}
    assert machine.scheduler.residency.warm_up() == ""
    machine.use("b")
    assert machine.scheduler.status()["ahead"] == {"ahead": 1, "hit": 1}


def test_what_goes_unused_was_wasted(machine):
    machine.use("a")
    machine.scheduler.residency.warms_up = True
    machine.scheduler.residency.warm_up()
    machine.scheduler.residency.unload("b", "idle")
    assert machine.scheduler.status()["ahead"] == {"ahead": 1, "wasted": 1}


def test_nothing_goes_for_a_model_that_nobody_has_asked_for():
    machine = Machine(6, {"a": 4, "b": 4}, keep_alive=(("*", 0.001),))
    for _ in range(3):
        for name in "ab":
            machine.use(name)
            machine.age(name)
            machine.scheduler.residency.unload(name, "asked")
    machine.use("a")
    machine.age("a")
    machine.there.add("a")
    machine.scheduler.residency.warms_up = True
    machine.scheduler.residency.close()
    machine.scheduler._admissions.residents.get("a").keep_alive = 0.0
    before = machine.scheduler.residency.unloads["room"]
    assert machine.scheduler.residency.warm_up() == ""
    assert "b" not in machine.there
    assert machine.scheduler.residency.unloads["room"] == before
    assert machine.scheduler.status()["waiting"] == 0


def test_the_thread_loads_it_by_itself(machine):
    machine.scheduler.residency.warms_up = True
    machine.use("a")
    assert wait_until(lambda: "b" in machine.there or machine.use("a"), 30)
    machine.scheduler.residency.close()


@pytest.mark.parametrize(("uses", "expected"), [("abab", ""), ("ababab", "b"), ("abababac", "b"), ("acacababac", "c")])
def test_the_one_that_followed_most_often_is_next(uses, expected):
    warming = Warming()
    for number, name in enumerate(f"{uses}a"):
        warming.used(name, float(number))
    assert warming.next(["b", "c"]) == expected
    assert warming.next([]) == ""


def test_uses_long_apart_say_nothing_about_each_other():
    warming = Warming()
    for number in range(8):
        warming.used("ab"[number % 2], number * 1000.0)
    assert warming.next(["a", "b"]) == ""


def test_what_was_recorded_by_earlier_processes_counts(tmp_path):
    old = Scheduler(reserve=0, probe=lambda: Available(GIB, "fake", GIB), journal=Journal(tmp_path))
    for name in "abababab":
        with old.lease(Request(name, 1, 0, 1)):
            pass
    machine = Machine(16, {"a": 4, "b": 4}, keep_alive=(("*", None),))
    machine.scheduler.residency.folder = tmp_path
    machine.scheduler.residency.warms_up = True
    machine.use("a")
    assert machine.scheduler.residency.warm_up() == "b" or wait_until(lambda: "b" in machine.there, 30)
    machine.scheduler.residency.close()


@matters("schedule.warm_up")
def test_loading_ahead_can_be_switched_off(settings):
    for switch in (True, False):
        changed = settings.with_values({"schedule.warm_up": switch, "schedule.keep_alive": ["-1"]})
        with Memory(settings=changed) as memory:
            other = memory.models.load("static:wordllama-64").name
            for _ in range(4):
                for name in (other, memory.embeddings.embedder.name):
                    with memory.scheduler.lease(Request(name, 1, 0, 1)):
                        memory.scheduler.residency.get(name).load()
            memory.models.unload(other)
            with memory.scheduler.lease(Request(memory.embeddings.embedder.name, 1, 0, 1)):
                pass
            if switch:
                assert wait_until(lambda m=memory, o=other: m.scheduler.residency.get(o).is_loaded(), 30)
            else:
                assert memory.scheduler.residency.warm_up() == ""
                assert not memory.scheduler.residency.get(other).is_loaded()
