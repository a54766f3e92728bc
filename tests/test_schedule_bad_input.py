"""What the scheduler is told may be absurd, and where it writes may be full: it is said, and nobody is stuck."""

from __future__ import annotations

import json
import time

import pytest
from fake_http import Reply
from fake_ollama import FakeModel, FakeOllama

from omnimemory.errors import MemoryBudgetError, ModelServerError
from omnimemory.memory import Memory
from omnimemory.model_servers.ollama import Ollama
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.journal import read_journal
from omnimemory.scheduler.metrics import metrics
from omnimemory.scheduler.presence import present
from omnimemory.scheduler.probe import Available

GIB = 1 << 30


class Liar(FakeOllama):
    """An Ollama that says what it is told to about sizes, or that something was done that was not."""

    size: object = 300_000_000
    loads_nothing = False
    unloads_nothing = False

    def get_ps(self):
        reply = super().get_ps()
        for model in reply.body["models"]:
            model["size"] = self.size
        return reply

    def post_embed(self, body):
        reply = super().post_embed(body)
        if self.loads_nothing:
            self.loaded.clear()
        return reply

    def _unload(self, name):
        if not self.unloads_nothing:
            super()._unload(name)

    def post_generate(self, body):
        if self.unloads_nothing:
            return Reply(200, {"model": body["model"], "response": "", "done": True, "done_reason": "unload"})
        return super().post_generate(body)


@pytest.fixture
def liar():
    with Liar({"tiny:latest": FakeModel()}) as server:
        yield server


def memory_on(settings, liar, room, **values):
    given = {"servers.ollama_url": liar.url, "memory.reserve": 0, "schedule.wait": 0, "schedule.allow_foreign": True}
    memory = Memory(settings=settings.with_values({**given, **values}))
    memory.scheduler._probe = memory.scheduler._admissions.probe = lambda: Available(room, "a test", 16 * GIB)
    return memory


@pytest.mark.parametrize("size", [-5, 1 << 62, 1 << 80, "many", None, 1.5, [], True], ids=repr)
def test_a_server_that_lies_about_sizes_makes_no_room(settings, liar, size):
    liar.size = size
    with Ollama(liar.url) as others:
        others.load("tiny")
    with memory_on(settings, liar, GIB) as memory:
        found = memory.models.loaded()
        assert all(0 <= one.bytes < 1 << 60 for one in found)
        with (
            pytest.raises(MemoryBudgetError),
            memory.scheduler.lease(Request("onnx:x", 1, 0, 2 * GIB, measured=9)),
        ):
            pytest.fail("only what is measured counts")
        with memory.scheduler.lease(Request("onnx:x", 1, 0, GIB // 2, measured=9)) as lease:
            assert lease.items == 1


def test_a_server_that_says_it_loaded_and_did_not_is_an_error(settings, liar):
    liar.loads_nothing = True
    with memory_on(settings, liar, 8 * GIB) as memory:
        with pytest.raises(ModelServerError, match="does not list it"):
            memory.models.load("ollama:tiny")
        assert memory.models.preload("ollama:tiny") is False
        assert memory.models.status()["leases"] == 0


def test_a_server_that_says_it_unloaded_and_did_not_is_an_error_and_holds_nobody_up(settings, liar):
    liar.unloads_nothing = True
    with Ollama(liar.url) as others:
        others.load("tiny")
    with memory_on(settings, liar, 200_000_000) as memory:
        with pytest.raises(ModelServerError, match="still loaded after 1 s"):
            memory.models.unload("ollama:tiny")
        with (
            pytest.raises(MemoryBudgetError),
            memory.scheduler.lease(Request("onnx:x", 1, 0, 300_000_000, measured=9)),
        ):
            pytest.fail("nothing came back")
        assert memory.models.status()["leases"] == 0


@pytest.mark.parametrize("kind", ["file", "link", "gone"])
def test_without_a_place_for_its_files_the_scheduler_works_and_says_so(settings, liar, tmp_path, kind):
    folder = tmp_path / "state"
    if kind == "file":
        folder.write_text("a file")
    elif kind == "link":
        folder.symlink_to(tmp_path / "nowhere" / "at all")
    values = {"schedule.folder": folder / "deeper" if kind == "gone" else folder}
    with memory_on(settings, liar, 8 * GIB, **values) as memory:
        if kind == "gone":
            folder.write_text("in the way")
        memory.add("a note")
        assert len(memory.search("note")) == 1
        assert "cannot be" in memory.status()["scheduler"]["problem"]
        assert memory.models.load("ollama:tiny").ours is False, "what cannot be noted counts as others'"
        memory.models.unload("ollama:tiny", foreign=True)
    assert present(folder) == []
    assert read_journal(folder) == []


@pytest.mark.parametrize("jump", [-1e9, 1e9, float("-1e18")], ids=["back", "forth", "absurdly"])
def test_a_clock_that_jumps_changes_no_decision(settings, monkeypatch, tmp_path, jump):
    changed = settings.with_values({"schedule.folder": tmp_path / "state", "schedule.keep_alive": ["1h"]})
    real = time.time
    with Memory(settings=changed) as memory:
        memory.add("one note")
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        memory.add("another note")
        assert memory.models.unload_idle() == []
        json.dumps(memory.status(), allow_nan=False)
        monkeypatch.undo()
        memory.add("a third note")
        assert present(tmp_path / "state") is not None
    traces = read_journal(tmp_path / "state")
    assert [trace.outcome for trace in traces] == ["done"] * 3
    assert all(trace.end.seconds >= 0 for trace in traces)
    assert metrics(traces)["waited"]["count"] == 0


def test_files_of_the_state_folder_that_hold_anything_are_no_models_and_no_decisions(tmp_path):
    (tmp_path / "models-1-x.json").write_text("{}")
    (tmp_path / "models-999999999-1.json").write_text("[]")
    (tmp_path / "models-0-0.json").write_bytes(b"\xff\x00")
    (tmp_path / "decisions.jsonl").write_bytes(b"\xff\x00" * 1000)
    assert present(tmp_path) == []
    assert read_journal(tmp_path) == []
