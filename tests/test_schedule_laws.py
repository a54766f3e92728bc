"""The laws of scheduling on random machines, and that each of them can be broken."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from laws import BrokenLawError, Laws
from simulated_machine import PROFILE, STARVE, TICK, Machine

from omnimemory.scheduler import admissions, policy, residents, victims
from omnimemory.scheduler.rules import Rules


def random_run(seed, requests=33):
    """Let a random machine run: everything that can happen to it happens."""
    laws = Laws()
    machine = Machine(seed, laws)
    dice = random.Random(seed * 7919 + 1)
    for _ in range(requests):
        machine.at(dice.uniform(0, 60), _arrive, machine, dice)
    for _ in range(dice.randint(0, 4)):
        machine.at(dice.uniform(0, 60), machine.others_take, dice.randint(0, 700))
    if dice.random() < 0.3:
        machine.at(dice.uniform(0, 60), lambda: machine.kill(dice.choice(machine.world.processes)))
    if dice.random() < 0.1:
        machine.at(dice.uniform(0, 30), setattr, machine.world, "blind", True)
        machine.at(dice.uniform(30, 60), setattr, machine.world, "blind", False)
    for second in range(0, 90, 5):
        machine.at(second, lambda: [machine.tidy(process) for process in list(machine.world.processes)])
    machine.run()
    return machine


def _arrive(machine, dice):
    job = machine.ask(
        dice.choice(machine.world.processes),
        dice.choice("abcd"),
        dice.choice([1, 1, 4, 16, 64]),
        dice.choice([0, 1, 5, 40, 300, 2000]),
        dice.choice([0.0, 1.0, 5.0, 30.0]),
        dice.choice([0.05, 0.5, 3.0]),
        fails=dice.random() < 0.1,
        may_evict=dice.random() < 0.8,
    )
    if dice.random() < 0.05:
        machine.at(dice.uniform(0, 5), machine.cancel, job)


def runs(seeds):
    total = Laws()
    requests = 0
    for seed in seeds:
        machine = random_run(seed)
        requests += len(machine.jobs)
        for name, count in vars(machine.laws).items():
            setattr(total, name, getattr(total, name) + count)
    return requests, total


def check(requests, seen, least):
    assert requests >= least
    assert seen.granted > requests // 4
    # Everything that the laws speak of has happened often.
    for name in ("evicted", "timed_out", "too_big", "purged"):
        assert getattr(seen, name) > requests // 1000, (name, vars(seen))


@pytest.mark.parametrize("part", range(4))
def test_the_laws_hold_on_random_machines(part):
    requests, seen = runs(range(part * 75, part * 75 + 75))
    check(requests, seen, 2_475)


@pytest.mark.slow  # 3,100 machines in all, about 40 seconds of one processor
@pytest.mark.parametrize("part", range(4))
def test_the_laws_hold_on_three_thousand_random_machines(part):
    requests, seen = runs(range(10_000 + part * 775, 10_000 + part * 775 + 775))
    check(requests, seen, 25_500)


def test_the_same_seed_is_the_same_history():
    first, second = random_run(5), random_run(5)
    assert [(job.outcome, job.ended) for job in first.jobs] == [(job.outcome, job.ended) for job in second.jobs]


def a_large_one_in_a_stream(*, elsewhere):
    """Return how long a large batch waits beside a stream of small ones, or ``None`` if it never runs."""
    machine = Machine(1, Laws(), Rules(PROFILE))
    machine.world.processes[1:] = []
    stream = machine.world.processes[0]
    asking = machine.start() if elsewhere else stream
    stream.there["a"] = asking.there["b"] = True
    for place in range(80):
        machine.at(place / 2.75, machine.ask, stream, "a", 1, 180, 60.0, SECONDS)
    machine.world.total = 1000 + machine.models["a"].bytes + machine.models["b"].bytes
    found = []
    machine.at(1.0, lambda: found.append(machine.ask(asking, "b", 1, 800, 25.0, 0.5)))
    machine.run()
    return found[0].ended - 0.5 - found[0].ticket.asked if found[0].outcome == "done" else None


SECONDS = 2.0


@pytest.mark.parametrize("elsewhere", [False, True], ids=["in the same process", "in another process"])
def test_a_request_that_waits_too_long_is_served_next(elsewhere, monkeypatch):
    # I11: small batches come all the time; the large one waits as long as it must, and no longer.
    waited = a_large_one_in_a_stream(elsewhere=elsewhere)
    assert STARVE <= waited + TICK <= STARVE + SECONDS + 3 * TICK
    monkeypatch.setattr(admissions.Admissions, "_held", lambda *_: 0)
    assert a_large_one_in_a_stream(elsewhere=elsewhere) is None


def test_a_model_in_use_is_drained_for_one_that_waits_too_long():
    machine = Machine(1, Laws(), Rules(PROFILE))
    machine.models["a"].bytes, machine.models["b"].bytes = 600, 600
    machine.models["a"].pinned = machine.models["a"].foreign = False
    machine.world.processes[1:] = []
    (process,) = machine.world.processes
    for half in range(120):  # somebody always uses a
        machine.at(half / 2, machine.ask, process, "a", 1, 1, 60.0, 1.0)
    found = []
    machine.at(10.0, lambda: found.append(machine.ask(process, "b", 1, 1, 40.0, 0.5)))
    machine.run()
    assert found[0].outcome == "done"
    assert found[0].ended - found[0].ticket.asked <= STARVE + 1.0 + machine.models["b"].load_seconds + 1.0 + 2.0
    assert machine.laws.drained


def test_models_are_not_loaded_and_unloaded_in_turns_under_a_constant_load():
    # I18: two models that fit together are loaded once, though memory is between low and high all the time.
    machine = Machine(2, Laws(), Rules(PROFILE))
    for name in "ab":
        machine.models[name] = replace(machine.models[name], bytes=100, keep_alive=None)
    machine.world.processes.clear()
    process = machine.start()
    machine.world.taken = 710
    for second in range(300):
        machine.at(second, machine.ask, process, "ab"[second % 2], 1, 5, 5.0, 0.1)
        machine.at(second + 0.5, machine.tidy, process)
    machine.run()
    assert {job.outcome for job in machine.jobs} == {"done"}
    assert [process.residents.get(name).epoch for name in "ab"] == [2, 2]  # loading and ready, and nothing since


def _leave_out(name, value):
    def changed(*args, **kwargs):
        return real(*args, **{**kwargs, name: value})

    real = policy.choose_victims
    return changed


def _half_enough(chosen, wanted, count):
    found = list(chosen)
    return len(found) >= count and 2 * sum(one.bytes for one in found) >= wanted


def _spare(rule):
    real = victims._why_spared

    def changed(resident, now, **kwargs):
        return real(replace(resident, **rule), now, **kwargs)

    return changed


def _limits(**values):
    real = Rules.limits

    def changed(self, *args, **kwargs):
        return replace(real(self, *args, **kwargs), **values)

    return changed


def _without_pruning(residents, wanted, count, now, **kwargs):
    found, spared = REAL_CHOICE(residents, wanted, count, now, **kwargs)
    if not found:
        return found, spared
    free = [one for one in residents if one.name not in {kwargs["without"], *(kept.model for kept in spared)}]
    return tuple(victims.Victim(one.name, one.bytes, 0.0) for one in free), spared


def _forgetful_release(self, name, now, *, ended_well=True):
    if ended_well:
        REAL_RELEASE(self, name, now)


def _patient(case, *args):
    return REAL_WAIT(replace(case, turn=replace(case.turn, patience=1e9)), *args)


def _any_epoch(self, name, epoch, state):
    return self._entries.get(name)


def _resurrecting(self, name, now):
    entry = REAL_SYNC(self, name, now)
    if entry is not None and entry.state is residents.State.UNLOADING:
        self._become(entry, residents.State.READY)
    return entry


REAL_CHOICE = policy.choose_victims
REAL_RELEASE = admissions.Admissions.release
REAL_WAIT = policy._wait
REAL_NOT_YET = policy._not_yet
REAL_SYNC = residents.Residents.sync
REAL_FITTING = policy._fitting

MUTANTS = {
    "models in use go": (victims, "_why_spared", _spare({"leases": 0})),
    "pinned models go": (victims, "_why_spared", _spare({"pinned": False})),
    "foreign models go": (victims, "_why_spared", _spare({"foreign": False})),
    "what was just loaded goes": (victims, "_why_spared", _spare({"since": -1e9})),
    "half of what is needed goes": (victims, "_enough", _half_enough),
    "all that may go goes": (policy, "choose_victims", _without_pruning),
    "leave to evict is not asked for": (policy, "choose_victims", _leave_out("expired_only", False)),
    "the reserve is not kept": (Rules, "limits", _limits(reserve=-100)),
    "other promises are not counted": (Rules, "limits", _limits(outstanding=0)),
    "other processes are not counted": (admissions.Shared, "outstanding", 0),
    "what can never fit waits": (policy, "_never", lambda case: ""),
    "deadlines are dropped": (policy, "_wait", _patient),
    "two models load at once": (policy, "_not_yet", lambda case: ""),
    "ready models wait for a load": (
        policy,
        "_not_yet",
        lambda case: REAL_NOT_YET(case) or (case.turn.loading and "a load"),
    ),
    "a failed batch keeps its memory": (admissions.Admissions, "release", _forgetful_release),
    "old news counts": (residents.Residents, "_current", _any_epoch),
    "what is being unloaded comes back": (residents.Residents, "sync", _resurrecting),
    "batches are made too small": (policy, "_fitting", lambda case: min(1, REAL_FITTING(case))),
    "no halving": (policy, "_fitting", lambda case: case.request.items),
    "as many models as fit": (policy, "_over", lambda case: 0),
}


@pytest.mark.parametrize(("place", "name", "changed"), MUTANTS.values(), ids=MUTANTS)
def test_a_scheduler_that_breaks_a_law_is_caught(place, name, changed, monkeypatch):
    monkeypatch.setattr(place, name, changed)
    with pytest.raises((BrokenLawError, AssertionError)):
        runs(range(60))
