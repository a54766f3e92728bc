"""Cards that several processes share, what is written down about them, and models of a server. Cards are simulated."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
from fake_cards import Cards
from fake_ollama import FakeModel, FakeOllama
from store_cases import start

from omnimemory.errors import MemoryBudgetError
from omnimemory.memory import Memory
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.journal import Journal, read_journal
from omnimemory.scheduler.ledger import Ledger
from omnimemory.scheduler.loadable import Loadable
from omnimemory.scheduler.placing import replay
from omnimemory.scheduler.pools import Pool
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.rules import Rules
from omnimemory.scheduler.scheduler import Scheduler

GIB = 1 << 30


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


HOLDER = """
import sys
from pathlib import Path
from test_shared_cards import GIB, Cards24

machine = Cards24(Path(sys.argv[1]))
with machine.use(machine.schedulers[0], "a", 14 * GIB) as lease:
    print(lease.decision.pool, flush=True)
    sys.stdin.readline()
"""


def test_a_process_that_is_killed_frees_what_it_was_promised_of_a_card(tmp_path):
    machine = Cards24(tmp_path)
    holder = start(HOLDER, tmp_path)
    assert holder.stdout.readline() == "gpu:1\n"
    wanted = Request("b", 1, 14 * GIB, 0, measured=9, pools=("gpu",))
    assert machine.schedulers[0].plan(wanted).pool == "gpu:0"
    holder.kill()
    holder.communicate()
    assert machine.schedulers[0].plan(wanted).pool == "gpu:1"


def test_what_was_recorded_before_there_were_pools_can_still_be_decided_again(tmp_path):
    scheduler = Scheduler(Rules(reserve=0), probe=lambda: Available(GIB, "a test", GIB), journal=Journal(tmp_path))
    with scheduler.lease(Request("m", 4, 0, 100)):
        pass
    path = tmp_path / "decisions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for name in ("pool", "places"):
        del lines[0]["decision"][name]
    for part, names in (("request", ("pools", "server")), ("turn", ("pool", "serving"))):
        for name in names:
            del lines[0]["decision"][part][name]
    for name in ("windowed", "truncated"):
        del lines[1]["end"][name]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (trace,) = read_journal(tmp_path)
    assert trace.outcome == "done"
    assert replace(replay(trace.last), id=trace.last.id, time=trace.last.time) == trace.last
