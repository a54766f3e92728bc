"""The models of an Ollama: looked at, loaded, unloaded for sure, and left alone when others loaded them."""

from __future__ import annotations

import json
import threading

import pytest
from click.testing import CliRunner
from fake_ollama import FakeModel, FakeOllama
from settings_cases import matters

from omnimemory.cli import cli
from omnimemory.errors import ConfigError, MemoryBudgetError, ModelServerError
from omnimemory.memory import Memory
from omnimemory.model_servers.ollama import Ollama
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.probe import Available

MIB = 1 << 20
GIB = 1 << 30


@pytest.fixture
def fake():
    models = {
        "tiny:latest": FakeModel(),
        "big:latest": FakeModel(digest="sha256:" + "b" * 64, ram=4 * GIB, vram=2 * GIB),
    }
    with FakeOllama(models) as server:
        yield server


@pytest.fixture
def served(settings, fake):
    return settings.with_values({"servers.ollama_url": fake.url, "servers.connect_timeout": 5.0})


def on_machine(memory, fake, total):
    """Let the memory be on a machine of so many bytes, on which the server's models are."""

    def available():
        with fake.lock:
            used = sum(fake.models[name].ram for name in fake.loaded)
        return Available(total - used, "a test", total)

    memory.scheduler._probe = memory.scheduler._admissions.probe = available


def test_a_model_is_loaded_and_its_main_memory_is_what_is_not_video_memory(served, fake):
    with Memory(settings=served) as memory:
        one = memory.models.load("ollama:big", keep_alive="1h")
        assert (one.bytes, one.vram_bytes, one.ours) == (4 * GIB, 2 * GIB, True)
        assert 3000 < one.seconds_left <= 3600
        assert [asked.body["keep_alive"] for asked in fake.asked if asked.path == "/api/embed"] == ["1h"]
        assert memory.models.can_load("ollama:big") == (True, "ollama:big is loaded")
        assert "ollama:tiny" in [each["name"] for each in memory.models.available()]


def test_unloading_ends_when_the_server_no_longer_lists_it_and_says_what_came_back(served, fake):
    with Memory(settings=served) as memory:
        memory.models.load("ollama:tiny")
        fake.unloads_when.clear()
        threading.Timer(0.2, fake.unloads_when.set).start()
        done = memory.models.unload("ollama:tiny")
        assert not fake.loaded
        assert (done.freed_bytes, done.reason) == (300_000_000, "asked")
        assert memory.models.unload("ollama:tiny").reason == "it was not loaded"


def test_what_others_loaded_is_left_alone_unless_that_is_asked_for(served, fake):
    with Ollama(fake.url) as others:
        others.load("tiny")
    with Memory(settings=served) as memory:
        assert [one.ours for one in memory.models.loaded()] == [False]
        with pytest.raises(ConfigError, match="loaded by others"):
            memory.models.unload("ollama:tiny")
        assert fake.loaded
        memory.models.unload("ollama:tiny", foreign=True)
        assert not fake.loaded


def test_a_model_that_others_load_after_ours_has_gone_is_theirs(served, fake):
    with Memory(settings=served) as memory, Ollama(fake.url) as others:
        memory.models.load("ollama:tiny")
        others.unload("tiny")
        assert memory.models.loaded() == []
        others.load("tiny")
        assert [one.ours for one in memory.models.loaded()] == [False]


@matters("schedule.allow_foreign")
def test_for_room_here_models_of_the_server_go_that_are_ours_or_may_go(served, fake):
    for allowed, by, gone in ((False, "others", False), (True, "others", True), (False, "us", True)):
        changed = served.with_values({"schedule.allow_foreign": allowed, "schedule.wait": 0, "memory.reserve": 0})
        with Memory(settings=changed) as memory, Ollama(fake.url) as others:
            if others.is_loaded("big"):
                others.unload("big")
            on_machine(memory, fake, 6 * GIB)
            if by == "us":
                memory.models.load("ollama:big")
                memory.scheduler._admissions.residents.get("ollama:big").since -= 100  # not just now
            else:
                others.load("big")
            try:
                with memory.scheduler.lease(Request("onnx:x", 1, 0, 3 * GIB, measured=9)):
                    assert gone
            except MemoryBudgetError:
                assert not gone
            assert others.is_loaded("big") is not gone


def test_a_batch_that_fits_asks_no_server(served, fake):
    changed = served.with_values({"schedule.allow_foreign": True})
    with Memory(settings=changed) as memory:
        memory.add("a note")
        memory.search("a question")
    assert fake.asked == []


def test_a_model_for_which_there_is_no_memory_is_not_loaded_with_force_neither(served, fake):
    with Memory(settings=served.with_values({"schedule.wait": 0, "memory.reserve": 0})) as memory:
        on_machine(memory, fake, 100 * MIB)
        assert memory.models.can_load("ollama:big")[0] is False
        for force in (False, True):
            with pytest.raises(MemoryBudgetError):
                memory.models.load("ollama:big", force=force)
        assert memory.models.preload("ollama:big") is False
    assert fake.loads == []


def test_a_name_that_the_server_does_not_know_is_an_error_with_the_fix(served):
    with Memory(settings=served) as memory:
        can, reason = memory.models.can_load("ollama:nothing")
        assert not can
        assert "ollama pull nothing" in reason
        with pytest.raises(ModelServerError, match="ollama pull nothing"):
            memory.models.load("ollama:nothing")


def test_a_server_that_is_down_holds_nothing_and_stops_nothing(served, fake):
    fake.stop()
    with Memory(settings=served) as memory:
        assert memory.models.loaded() == []
        assert memory.models.can_load("ollama:tiny")[0] is False
        with pytest.raises(ModelServerError, match="ollama serve"):
            memory.models.load("ollama:tiny")
    fake.start()


def run(*arguments, code=0):
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == code, done.output
    return done


def test_the_commands_load_list_keep_and_unload(fake, monkeypatch, tmp_path):
    monkeypatch.setenv("OMNIMEMORY_SERVERS_OLLAMA_URL", fake.url)
    monkeypatch.setenv("OMNIMEMORY_SCHEDULE_FOLDER", str(tmp_path / "state"))
    monkeypatch.setenv("OMNIMEMORY_STORE", str(tmp_path / "store"))
    assert run("models", "ps").stdout == ""
    loaded = json.loads(run("models", "load", "ollama:tiny", "--keep", "10m").stdout)
    assert (loaded["name"], loaded["bytes"]) == ("ollama:tiny", 300_000_000)
    (listed,) = map(json.loads, run("models", "ps").stdout.splitlines())
    assert (listed["name"], listed["ours"]) == ("ollama:tiny", True)
    run("models", "keep", "ollama:tiny", "-1")
    (listed,) = map(json.loads, run("models", "ps").stdout.splitlines())
    assert listed["seconds_left"] is None
    assert json.loads(run("models", "unload", "ollama:tiny").stdout)["freed_bytes"] == 300_000_000
    assert not fake.loaded
    with Ollama(fake.url) as others:
        others.load("tiny")
    assert "--foreign" in run("models", "unload", "ollama:tiny", code=2).output
    run("models", "unload", "ollama:tiny", "--foreign")
    here = json.loads(run("models", "load", "static").stdout)
    assert here["where"] == "here"
    assert here["taken"] > 0  # measured, beside what was counted on
    assert loaded["taken"] is None
    said = run("models", "keep", "static", "5m", code=2).output
    assert "schedule.keep_alive = ['static:wordllama-256=5m']" in said  # a name that the setting matches
    assert "not been pulled" in run("models", "keep", "minilm", "5m", code=1).output
