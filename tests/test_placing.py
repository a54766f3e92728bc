"""Which of several pools of memory a model goes to. Cards are simulated: no machine with one was at hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.scheduler.decision import Turn
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.limits import Limits, Place
from omnimemory.scheduler.placing import decide_where, replay
from omnimemory.scheduler.probe import Available
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
