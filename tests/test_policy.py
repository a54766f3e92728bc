"""The laws of the decision, and the sentences a person reads."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.errors import MemoryBudgetError
from omnimemory.scheduler.decision import BatchRefusedError
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.limits import Limits, default_reserve
from omnimemory.scheduler.placing import replay
from omnimemory.scheduler.policy import decide
from omnimemory.scheduler.probe import Available, Reading

MIB = 1 << 20
GIB = 1 << 30

amounts = st.one_of(st.integers(0, 5000), st.integers(0, 1 << 45))
availables = st.builds(Available, amounts, st.just("MemAvailable"), st.just(1 << 46), st.just(()), amounts)
requests = st.builds(Request, st.just("m"), st.integers(1, 3000), amounts, amounts, amounts)
limitses = st.builds(Limits, amounts, st.none() | amounts, amounts)


def memory(size, source="MemAvailable", total=16 * GIB, used=0):
    return Available(size, source, total, (Reading(source, size, "", total),), used)


@given(availables, requests, limitses)
def test_what_is_granted_fits_and_is_at_least_one_text(available, request, limits):
    decision = decide(available, request, limits)
    assert decision.room >= 0
    if decision.action == "refuse":
        assert decision.items == 0
    else:
        assert 1 <= decision.items <= request.items
        assert decision.need == request.need(decision.items)
        assert decision.need <= decision.room or decision.need == 0
        assert decision.need + limits.reserve + limits.outstanding <= available.bytes or decision.need == 0
        if limits.max_bytes is not None and decision.need:
            assert decision.need + limits.outstanding + available.used <= limits.max_bytes


@given(availables, requests, limitses)
def test_a_batch_is_refused_only_when_not_even_one_text_fits(available, request, limits):
    decision = decide(available, request, limits)
    assert (decision.action == "refuse") == (request.need(1) > decision.room)
    assert (decision.action == "grant") == (request.need(request.items) <= decision.room)


@given(availables, requests, limitses)
def test_a_batch_is_halved_until_it_fits_and_no_further(available, request, limits):
    decision = decide(available, request, limits)
    if decision.action == "shrink":
        halves = [request.items]
        while halves[-1] > 1:
            halves.append(halves[-1] // 2)
        position = halves.index(decision.items)
        assert position > 0
        assert request.need(halves[position - 1]) > decision.room


@given(availables, requests, limitses)
def test_the_same_inputs_give_the_same_record(available, request, limits):
    decision = decide(available, request, limits)
    assert replay(decision) == decision


@given(availables, requests, limitses, amounts)
def test_more_memory_never_grants_less(available, request, limits, more):
    richer = replace(available, bytes=available.bytes + more)
    assert decide(richer, request, limits).items >= decide(available, request, limits).items


@given(availables, requests, limitses, amounts, st.sampled_from(["reserve", "outstanding"]))
def test_a_larger_reserve_or_more_leases_never_grant_more(available, request, limits, more, name):
    tighter = replace(limits, **{name: getattr(limits, name) + more})
    assert decide(available, request, tighter).items <= decide(available, request, limits).items


@given(requests, st.integers(1, 3000))
def test_a_bigger_batch_never_needs_less(request, more):
    assert request.need(request.items + more) >= request.need(request.items)


def test_memory_that_cannot_be_read_is_no_memory():
    unknown = Available(0, "unknown", 0, (Reading("machine", None, "meminfo: gone"),))
    decision = decide(unknown, Request("m", 8, 0, 1), Limits(0))
    assert decision.action == "refuse"
    assert "cannot be read (machine: meminfo: gone)" in decision.reason
    assert "OMNIMEMORY_MEMORY_MAX_BYTES" in decision.reason


def test_where_memory_cannot_be_read_the_users_limit_is_the_room():
    unknown = Available(0, "unknown", 0, (), used=30)
    decision = decide(unknown, Request("m", 8, 0, 10), Limits(0, max_bytes=100, outstanding=20))
    assert (decision.action, decision.items, decision.room) == ("shrink", 4, 50)


BINDING = {
    "machine": (memory(100 * MIB), Limits(90 * MIB), "Close programs, or lower memory.reserve (OMNIMEMORY_MEMORY_RES"),
    "no-reserve": (memory(10 * MIB), Limits(0), "Close programs, or"),
    "container": (memory(10 * MIB, "cgroup2:/x"), Limits(0), "Raise the memory limit of the container or service"),
    "process": (memory(10 * MIB, "RLIMIT_AS"), Limits(0), "Raise the limit of this process (RLIMIT_AS, see ulimit)"),
    "own-limit": (
        memory(9 * GIB, used=90 * MIB),
        Limits(0, 100 * MIB),
        "Raise memory.max_bytes (OMNIMEMORY_MEMORY_MAX",
    ),
    "looser-own-limit": (memory(10 * MIB, used=5 * MIB), Limits(0, 90 * MIB), "Close programs, or"),
    "other-batches": (memory(90 * MIB), Limits(0, None, 80 * MIB), "wait for the batches that run now"),
}


@pytest.mark.parametrize(("available", "limits", "fix"), BINDING.values(), ids=BINDING)
def test_a_refusal_names_the_figures_and_the_fix_of_the_limit_that_binds(available, limits, fix):
    decision = decide(available, Request("static", 64, 60 * MIB, 40 * MIB), limits)
    assert decision.action == "refuse"
    assert fix in decision.reason
    assert "static: it needs 100.0 MiB (60.0 MiB of it for the model), and there are " in decision.reason
    assert f" MiB available by {available.source}, " in decision.reason


def test_a_smaller_model_is_advised_only_where_the_model_is_the_burden():
    heavy = decide(memory(MIB), Request("m", 1, 500 * MIB, MIB), Limits(0))
    light = decide(memory(MIB), Request("m", 1, 0, 5 * MIB), Limits(0))
    assert "choose a smaller model" in heavy.reason
    assert "choose a smaller model" not in light.reason


def test_a_shrunk_batch_says_what_was_asked_what_runs_and_how_to_run_more():
    decision = decide(memory(612 * MIB), Request("static", 64, 0, 2 * MIB), Limits(512 * MIB, None, 20 * MIB))
    assert (decision.action, decision.items, decision.need, decision.room) == ("shrink", 32, 64 * MIB, 80 * MIB)
    assert decision.reason == (
        "64 texts with static need 128.0 MiB, but there are 80.0 MiB (612.0 MiB available by MemAvailable, "
        "512.0 MiB kept in reserve, 20.0 MiB promised to running batches), so 32 run now. Close programs, or lower "
        "memory.reserve (OMNIMEMORY_MEMORY_RESERVE), or lower --batch-size to 32."
    )


@pytest.mark.parametrize(("room", "need"), [(10 * MIB - 1, 10 * MIB), (10 * MIB, 10 * MIB + 1)])
def test_a_near_miss_never_reads_as_if_it_fitted(room, need):
    reason = decide(memory(room), Request("m", 1, 0, need), Limits(0)).reason
    needed, there = (float(reason.split(word)[1].split()[0]) for word in ("it needs ", "there are "))
    assert needed > there


@pytest.mark.parametrize(
    ("total", "reserve"),
    [
        (0, 0),
        (512 * MIB, 128 * MIB),
        (GIB, 256 * MIB),
        (4 * GIB, 512 * MIB),
        (100 * GIB, 5 * GIB),
    ],
)
def test_the_default_reserve_fits_the_machine(total, reserve):
    assert default_reserve(total) == reserve


FREE = {"outstanding": 0, "held": 0, "factor": 1.0, "blind": "", "forbidden": ""}


def test_a_decision_is_json_and_tells_its_inputs():
    data = decide(memory(GIB), Request("m", 8, 1, 2, 3), Limits(5)).to_dict()
    again = json.loads(json.dumps(data))
    assert again["request"] == {
        "model": "m",
        "items": 8,
        "base": 1,
        "per_item": 2,
        "growth_per_item": 3,
        "per_batch": 0,
        "measured": 0,
        "pools": ["ram"],
        "server": "",
    }
    assert again["limits"] == {
        **dict.fromkeys(("max_bytes", "max_model_bytes", "max_loaded")),
        **FREE,
        "reserve": 5,
        "pressure": "ok",
    }
    assert again["available"]["readings"] == [{"source": "MemAvailable", "bytes": GIB, "note": "", "total": 16 * GIB}]
    assert (again["action"], again["items"], again["need"]) == ("grant", 8, 41)


def test_a_refusal_survives_pickling_with_its_decision():
    error = BatchRefusedError(decide(memory(0), Request("m", 1, 0, 1), Limits(0)))
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, MemoryBudgetError)
    assert (again.decision, str(again)) == (error.decision, error.decision.reason)
