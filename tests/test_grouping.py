"""Batches of one model go together where a server would have to load a model for each turn: A B A B becomes A A B B."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from fake_ollama import FakeModel, FakeOllama

from omnimemory.ingest import pace
from omnimemory.memory import Memory
from omnimemory.scheduler import grouping
from omnimemory.scheduler.admissions import Admissions, Ticket
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.placing import replay
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.rules import Rules

MANY = Available(1 << 30, "a test", 1 << 34)


class Asking:
    """One ingest: so many batches, one after the other, of so many seconds."""

    def __init__(self, name, model, batches, seconds, server="here", patience=10.0):
        self.name, self.model, self.left, self.seconds = name, model, batches, seconds
        self.server, self.patience = server, patience
        self.ticket = self.ends = None
        self.ready = 0.0

    def step(self, admissions, now, order):
        if self.ends is not None and now >= self.ends:
            admissions.release(self.name, now)
            self.ends, self.ready, self.left = None, now + 0.05, self.left - 1
        if self.ends is not None or not self.left or now < self.ready:
            return
        asked = Request(self.model, 8, 0, 1, measured=9, server=self.server)
        self.ticket = self.ticket or Ticket(asked, now, self.patience)
        decision = admissions.ask(self.ticket, now, self.name)
        assert replay(decision).action == decision.action
        assert decision.action != "refuse", decision.reason
        if decision.runs:
            order.append(self.model)
            self.ticket, self.ends = None, now + self.seconds


def run(*askings, until=60.0):
    """Return the models in the order in which their batches began, and when all were done."""
    admissions, order, now = Admissions(Rules(reserve=0), lambda: MANY, None), [], 0.0
    while any(one.left for one in askings):
        for one in askings:
            one.step(admissions, now, order)
        now += 0.02
        assert now < until, order
    return order, now


def switches(order):
    return sum(a != b for a, b in pairwise(order))


def test_short_ingests_with_two_models_run_one_after_the_other():
    order, _ = run(Asking("1", "a", 8, 0.2), Asking("2", "b", 8, 0.2))
    assert order == ["a"] * 8 + ["b"] * 8


def test_long_ones_take_turns_of_some_seconds_and_none_is_left_waiting():
    order, seconds = run(Asking("1", "a", 40, 0.5), Asking("2", "b", 40, 0.5))
    assert sorted(order) == ["a"] * 40 + ["b"] * 40
    assert 5 <= switches(order) <= 20
    assert order.index("b") <= 8
    assert seconds < 50


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (Asking("2", "a", 8, 0.2), 0),
        (Asking("2", "b", 8, 0.2, server="elsewhere"), None),
        (Asking("2", "b", 8, 0.2, server=""), None),
    ],
    ids=["the same model", "another server", "a model of this process"],
)
def test_others_do_not_wait(second, expected):
    order, seconds = run(Asking("1", "a", 8, 0.2), second)
    assert seconds < 3, "side by side"
    assert expected is None or switches(order) == expected


def test_who_cannot_wait_is_not_refused_for_it():
    order, _ = run(Asking("1", "a", 8, 0.2), Asking("2", "b", 8, 0.2, patience=0.0))
    assert order[:2] == ["a", "b"]


def test_a_decision_says_what_it_waits_for():
    admissions = Admissions(Rules(reserve=0), lambda: MANY, None)
    admissions.ask(Ticket(Request("a", 8, 0, 1, server="here"), 0.0, 10.0), 0.0, "1")
    waits = admissions.ask(Ticket(Request("b", 8, 0, 1, server="here"), 0.0, 10.0), 0.1, "2")
    assert (waits.action, waits.reason) == (
        "wait",
        "its server works for a, and batches of one model go together",
    )


def test_two_memories_that_ingest_with_two_models_of_one_server(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(grouping, "_PAUSE", 2.0)  # however slow the machine is
    monkeypatch.setattr(grouping, "_LONGEST", 100.0)
    monkeypatch.setattr(pace, "_LEAST_SHARE", 1)  # batches of four from the first on
    models = {name: FakeModel(digest="sha256:" + name[0] * 64) for name in ("aa:latest", "bb:latest")}
    docs = tmp_path / "docs"
    docs.mkdir()
    for n in range(24):
        (docs / f"{n}.md").write_text(f"# Note {n}\n\nSomething about subject number {n}.")
    with FakeOllama(models) as fake:
        served = settings.with_values(
            {"servers.ollama_url": fake.url, "servers.path": tmp_path / "servers", "schedule.wait": 200}
        )
        served = served.with_values({"servers.batch_size": 4, "embedding.batch_size": 4, "cache.enabled": False})
        of = {
            name: served.with_values({"embedding.model": f"ollama:{name}", "store.path": tmp_path / name})
            for name in ("aa", "bb")
        }
        with Memory(settings=of["aa"]) as one, Memory(settings=of["bb"], scheduler=one.scheduler) as other:
            threads = [threading.Thread(target=memory.ingest, args=(docs,)) for memory in (one, other)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(100)
            assert [memory.status()["store"]["documents"]["pending"] for memory in (one, other)] == [0, 0]
            assert one.search("subject number 7")[0].text
        asked = [each.body for each in fake.asked if each.path == "/api/embed"]
        batches = [body["model"] for body in asked if len(body["input"]) >= 3 and "subject" in str(body["input"])]
        assert len(batches) >= 12
        assert switches(batches) == 1, batches
