"""Which of several pools of memory a model goes to. Cards are simulated: no machine with one was at hand."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
from fake_cards import Cards
from fake_ollama import FakeModel, FakeOllama
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.errors import MemoryBudgetError
from omnimemory.memory import Memory
from omnimemory.scheduler.decision import Turn
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.journal import Journal, read_journal
from omnimemory.scheduler.ledger import Ledger
from omnimemory.scheduler.limits import Limits, Place
from omnimemory.scheduler.loadable import Loadable
from omnimemory.scheduler.placing import decide_where, replay
from omnimemory.scheduler.pools import Pool
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.rules import Rules
from omnimemory.scheduler.scheduler import Scheduler
from omnimemory.scheduler.victims import Resident

GIB = 1 << 30
NOW = 10_000.0


def place(pool, free, total=24, **limits):
    last = pool == "ram"
    return Place(pool, Available(int(free * GIB), "nvml", total * GIB), Limits(0, **limits), last_resort=last)


def model(name, size, pool, **values):
    return Resident(
        name, int(size * GIB), **{"since": 0.0, "used": NOW - 100, "load_seconds": 1.0, **values}, pool=pool
    )


def load(size, items=1, each=0):
    return Request("m", items, int(size * GIB), int(each * GIB), pools=("gpu", "ram"))


FREE = (place("gpu:0", 10), place("gpu:1", 16), place("ram", 60, 64))
EXAMPLES = {
    "the card with the most room is taken": (FREE, load(8), (), "", ("gpu:1", "grant", 1, ())),
    "the larger model goes where it fits": (FREE, load(12), (), "", ("gpu:1", "grant", 1, ())),
    "where it was before is as good while no other has a quarter more": (
        (place("gpu:0", 13), place("gpu:1", 16)),
        load(8),
        (),
        "gpu:0",
        ("gpu:0", "grant", 1, ()),
    ),
    "a quarter more room is worth the way": (FREE, load(8), (), "gpu:0", ("gpu:1", "grant", 1, ())),
    "where it was before no longer has room": (
        (place("gpu:0", 1), place("gpu:1", 9)),
        load(8),
        (),
        "gpu:0",
        ("gpu:1", "grant", 1, ()),
    ),
    "all of a batch on one card before a part of it on another": (
        (place("gpu:0", 9), place("gpu:1", 5)),
        load(1, 8, 1),
        (),
        "gpu:1",
        ("gpu:0", "grant", 8, ()),
    ),
    "of two parts the larger": (
        (place("gpu:0", 3), place("gpu:1", 5)),
        load(1, 8, 1),
        (),
        "",
        ("gpu:1", "shrink", 4, ()),
    ),
    "an idle model goes on a card before main memory is taken": (
        (place("gpu:0", 2), place("gpu:1", 2), place("ram", 60, 64)),
        load(8),
        (model("old", 9, "gpu:1"), model("small", 1, "gpu:0")),
        "",
        ("gpu:1", "evict", 0, ("old",)),
    ),
    "only models of that card go": (
        (place("gpu:0", 2), place("gpu:1", 2)),
        load(8),
        (model("elsewhere", 30, "ram"), model("old", 9, "gpu:0"), model("pinned", 20, "gpu:1", pinned=True)),
        "",
        ("gpu:0", "evict", 0, ("old",)),
    ),
    "main memory is the last resort": (
        (place("gpu:0", 2), place("gpu:1", 2), place("ram", 60, 64)),
        load(8),
        (model("used", 20, "gpu:1", leases=1),),
        "",
        ("ram", "grant", 1, ()),
    ),
    "main memory is taken before a wait, also by making room in it": (
        (place("gpu:0", 2), place("ram", 2, 64)),
        load(8),
        (model("used", 20, "gpu:0", leases=1), model("old", 9, "ram")),
        "",
        ("ram", "evict", 0, ("old",)),
    ),
    "where main memory cannot be used it waits for the card": (
        (place("gpu:0", 2), place("gpu:1", 4)),
        load(8),
        (model("used", 20, "gpu:1", leases=1),),
        "",
        ("gpu:1", "wait", 0, ()),
    ),
    "it waits for the card that can ever hold it": (
        (place("gpu:0", 7, 8), place("gpu:1", 4)),
        load(12),
        (model("used", 20, "gpu:1", leases=1),),
        "",
        ("gpu:1", "wait", 0, ()),
    ),
    "what no pool can ever hold is refused at once": (
        (place("gpu:0", 20), place("gpu:1", 24), place("ram", 30, 32)),
        load(40),
        (model("old", 9, "gpu:1"),),
        "",
        ("ram", "refuse", 0, ()),
    ),
    "a model that is there stays there": (
        (place("gpu:0", 1), place("gpu:1", 16)),
        Request("m", 8, 0, GIB // 2, pools=("gpu",)),
        (model("m", 8, "gpu:0"),),
        "gpu:1",
        ("gpu:0", "shrink", 2, ()),
    ),
    "as many as may be are on one card, none on the other": (
        (place("gpu:0", 16, max_loaded=1), place("gpu:1", 12, max_loaded=1)),
        load(8),
        (model("old", 2, "gpu:0"),),
        "",
        ("gpu:1", "grant", 1, ()),
    ),
    "what others were promised of a card is not there": (
        (place("gpu:0", 16, outstanding=12 * GIB), place("gpu:1", 10)),
        load(8),
        (),
        "gpu:0",
        ("gpu:1", "grant", 1, ()),
    ),
    "a card that cannot be read has nothing": (
        (Place("gpu:0", Available(0, "unknown", 0), Limits(0)), place("ram", 60, 64)),
        load(8),
        (),
        "gpu:0",
        ("ram", "grant", 1, ()),
    ),
}


@pytest.mark.parametrize(("places", "request_", "residents", "before", "expected"), EXAMPLES.values(), ids=EXAMPLES)
def test_where_a_model_goes(places, request_, residents, before, expected):
    decision = decide_where(places, request_, residents, Turn(NOW, patience=5, pool=before))
    victims = tuple(victim.model for victim in decision.victims)
    assert (decision.pool, decision.action, decision.items, victims) == expected
    assert replay(decision) == decision


def test_a_refusal_names_the_pool_with_the_most_room_and_those_that_have_less():
    told = decide_where(FREE[:2], load(40)).reason
    assert "m: it needs 40,960.0 MiB" in told
    assert told.endswith("That is gpu:1; gpu:0 has less.")


rooms = st.integers(0, 30)
spots = st.lists(rooms, min_size=1, max_size=4).map(
    lambda found: tuple(place(f"gpu:{number}", room, 30) for number, room in enumerate(found))
)


@given(spots, rooms, st.integers(1, 40), st.sampled_from(["", "gpu:0", "gpu:1", "ram"]))
def test_what_runs_fits_its_pool_and_main_memory_is_used_only_when_no_card_has_room(cards, main, size, before):
    places = (*cards, place("ram", main, 30))
    made = decide_where(places, load(size), (), Turn(NOW, patience=5, pool=before))
    fits = {one.pool for one in places if one.available.bytes >= size * GIB}
    assert made.runs == bool(fits)
    if made.runs:
        assert made.pool in fits
        assert made.pool != "ram" or fits == {"ram"}
        best = max(
            one.available.bytes for one in places if one.pool in fits and (one.pool != "ram" or made.pool == "ram")
        )
        assert made.room * (1.25 if made.pool == before else 1) >= best or made.pool == "ram"
    assert replay(made) == made


@given(spots, st.integers(1, 20), st.lists(st.integers(-2, 2), max_size=20))
def test_a_model_does_not_wander_while_the_free_memory_changes_a_little(cards, size, changes):
    cards = tuple(replace(one, available=replace(one.available, bytes=24 * GIB, total=30 * GIB)) for one in cards)
    seen, before = set(), ""
    for number, change in enumerate(changes):
        moved = list(cards)
        place_ = number % len(cards)
        free = (24 + change) * GIB
        moved[place_] = replace(moved[place_], available=replace(moved[place_].available, bytes=free))
        before = decide_where(moved, load(size), (), Turn(NOW, pool=before)).pool
        seen.add(before)
    assert len(seen) <= 1


class Cards24:
    """A machine with main memory and two cards on which models of our own making are."""

    def __init__(self, folder):
        self.free = {"ram": 60 * GIB, "gpu:0": 20 * GIB, "gpu:1": 24 * GIB}
        self.there = {}
        main = Available(60 * GIB, "a test", 64 * GIB)
        rules, journal = Rules(reserve=0), Journal(folder)
        self.schedulers = [
            Scheduler(rules, probe=lambda: main, ledger=Ledger(folder), journal=journal, pools=self.pools)
            for _ in range(2)
        ]

    def pools(self, available):
        main = Pool("ram", "ram", available.total, available.bytes, available.source)
        cards = [Pool(name, "gpu", 24 * GIB, self.free[name], "nvml") for name in ("gpu:0", "gpu:1")]
        return (main, *cards, Pool("gpu:2", "gpu", 0, 0, "nvml", "lost"))

    def model(self, name, size):
        unload = lambda: self.there.pop(name) and size  # noqa: E731 - short
        return Loadable(
            name, lambda: name in self.there, lambda: None, unload, lambda: (size, 9), size, pools=("gpu", "ram")
        )

    def use(self, scheduler, name, size, **kwargs):
        known = scheduler.residency.get(name)
        if known is None:
            scheduler.residency.know(self.model(name, size))
        base = 0 if name in self.there else size
        return scheduler.lease(Request(name, 1, base, 0, measured=9, pools=("gpu", "ram")), **kwargs)


def test_models_of_two_processes_share_the_cards_and_what_was_promised_counts(tmp_path):
    machine = Cards24(tmp_path)
    one, other = machine.schedulers
    with machine.use(one, "a", 14 * GIB) as first:
        assert first.decision.pool == "gpu:1"
        assert one.status()["outstanding"] == 0, "that is not main memory"
        with machine.use(other, "b", 14 * GIB) as second:
            assert second.decision.pool == "gpu:0"
            machine.there["b"] = True
            assert [entry.name for entry in other.residency.entries()] == ["b"]  # one model is loaded at a time
            with machine.use(other, "c", 14 * GIB) as third:
                assert third.decision.pool == "ram"
                assert other.status()["outstanding"] == 14 * GIB
    with machine.use(other, "d", 14 * GIB) as fourth:
        assert fourth.decision.pool == "gpu:1"
    traces = read_journal(tmp_path)
    assert [trace.last.pool for trace in traces] == ["gpu:1", "gpu:0", "ram", "gpu:1"]
    for trace in traces:
        assert replace(replay(trace.last), id=trace.last.id, time=trace.last.time) == trace.last
        assert "decided again from this record: the same" in one.explain(trace.id)
    assert "pool: gpu:0; room by pool: gpu:0 19,251.2 MiB" in one.explain(traces[1].id)


def test_a_model_stays_on_its_card_and_goes_for_another_one_there(tmp_path):
    machine = Cards24(tmp_path)
    (one, _) = machine.schedulers
    for name in "ab":
        with machine.use(one, name, 18 * GIB) as lease:
            machine.there[name] = True
            machine.free[lease.decision.pool] -= 18 * GIB
    machine.free |= {"gpu:0": GIB, "gpu:1": 3 * GIB}
    residents = one._admissions.residents
    assert {name: residents.get(name).pool for name in "ab"} == {"a": "gpu:1", "b": "gpu:0"}
    with machine.use(one, "a", 20 * GIB) as again:
        assert again.decision.pool == "gpu:1"
    for name in "ab":
        residents.get(name).since -= 100
        residents.get(name).used -= 100
    residents.get("b").used -= 1000
    made = one.plan(Request("c", 1, 18 * GIB, 0, measured=9, pools=("gpu",)))
    assert (made.action, made.pool, [victim.model for victim in made.victims]) == ("evict", "gpu:1", ["a"])


def test_a_model_of_a_server_is_loaded_where_a_card_has_room_and_main_memory_has_none(settings, monkeypatch):
    models = {"big:latest": FakeModel(digest="sha256:" + "b" * 64, ram=4 * GIB, vram=2 * GIB, disk=4 * GIB)}
    with FakeOllama(models) as fake:
        served = settings.with_values({"servers.ollama_url": fake.url, "schedule.wait": 0})
        small = Available(GIB, "a test", 2 * GIB)
        for cards, can in (((2 * GIB, GIB), False), ((24 * GIB, 20 * GIB), True)):
            monkeypatch.setitem(sys.modules, "pynvml", Cards(cards))
            with Memory(settings=served) as memory:
                memory.scheduler._probe = memory.scheduler._admissions.probe = lambda: small
                found, reason = memory.models.can_load("ollama:big")
                assert found == can, reason
                if can:
                    assert memory.models.load("ollama:big").vram_bytes == 2 * GIB
                    (step,) = memory.scheduler.traces()[-1].steps
                    assert (step.pool, [one.pool for one in step.places]) == ("gpu:0", ["gpu:0", "ram"])
                    assert json.loads(json.dumps(step.to_dict()))["places"][1]["last_resort"] is True
                else:
                    with pytest.raises(MemoryBudgetError, match="has less"):
                        memory.models.load("ollama:big")
