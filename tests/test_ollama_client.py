"""The client against a server that is as strict as Ollama: every operation, blocking and for asyncio."""

import asyncio
import inspect
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fake_http import Reply, until
from fake_ollama import FakeModel, FakeOllama, word_vector

from omnimemory.errors import ConfigError, ModelNotFoundError, ModelServerError, OldServerError
from omnimemory.model_servers.exchange import NoAnswerError
from omnimemory.model_servers.keep_alive import keep_alive_value
from omnimemory.model_servers.ollama import AsyncOllama, Ollama
from omnimemory.model_servers.ollama_records import canonical_name
from omnimemory.model_servers.patience import BadAnswerError, Patience

QUICK = Patience(first=0.001)


class Waited:
    """The asynchronous client with the manners of the blocking one."""

    def __init__(self, *arguments, **options):
        self._make = lambda: AsyncOllama(*arguments, **options)
        self.url = self._make().url

    def __getattr__(self, name):
        async def call(arguments, options):
            async with self._make() as client:
                return await getattr(client, name)(*arguments, **options)

        return lambda *arguments, **options: asyncio.run(call(arguments, options))

    def close(self):
        pass


@pytest.fixture
def server():
    with FakeOllama() as fake:
        yield fake


@pytest.fixture(params=[Ollama, Waited], ids=["blocking", "asyncio"])
def client(request, server):
    made = request.param(server.url, patience=QUICK)
    yield made
    made.close()


def test_both_clients_have_the_same_methods():
    def methods(kind):
        found = {}
        for name, function in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                found[name.removeprefix("a") if name == "aclose" else name] = inspect.signature(function)
        return found

    assert methods(Ollama) == methods(AsyncOllama)


def test_texts_become_vectors_in_order(client):
    texts = [f"text {n}" for n in range(20)]
    found = client.embed("tiny", texts)
    assert found.vectors == [word_vector(text) for text in texts]
    assert found.tokens == 40
    assert client.embed("tiny", "text 3").vectors == [word_vector("text 3")]


def test_what_is_said_with_every_text(client, server):
    client.embed("tiny", "x", dimensions=8, keep_alive="-1", options={"num_ctx": 512})
    assert server.bodies("/api/embed") == [
        {
            "model": "tiny",
            "input": ["x"],
            "truncate": False,
            "dimensions": 8,
            "keep_alive": -1,
            "options": {"num_ctx": 512},
        }
    ]


def test_a_text_that_is_too_long_is_refused_unless_truncating_is_wanted(client):
    long = "word " * 5000
    with pytest.raises(ModelServerError, match="exceeds the context length"):
        client.embed("tiny", long)
    assert len(client.embed("tiny", long, truncate=True).vectors) == 1


def test_no_text_is_not_taken_for_a_wish_to_load(client):
    with pytest.raises(ConfigError, match="load"):
        client.embed("tiny", [])


def test_loading_and_unloading_are_seen_to_have_happened(client, server):
    assert client.ps() == []
    assert client.is_loaded("tiny") is False
    server.models["tiny:latest"].vram = 100_000_000
    running = client.load("tiny", keep_alive="10m")
    assert (running.name, running.total_bytes, running.ram_bytes) == ("tiny:latest", 400_000_000, 300_000_000)
    assert 500 < running.seconds_left() <= 600
    assert client.is_loaded("TINY:latest") is True
    unloaded = client.unload("tiny")
    assert (unloaded.was_loaded, unloaded.freed_bytes) == (True, 400_000_000)
    assert client.ps() == []
    again = client.unload("tiny")
    assert (again.was_loaded, again.freed_bytes) == (False, 0)
    assert len(server.loads) == 1


def test_a_model_in_use_is_waited_for(client, server):
    client.load("tiny")
    server.unloads_when.clear()
    with pytest.raises(ModelServerError, match="still loaded"):
        client.unload("tiny", wait=0.1)
    threading.Timer(0.1, server.unloads_when.set).start()
    assert client.unload("tiny").was_loaded


def test_a_model_kept_for_ever_says_so(client):
    assert client.load("tiny", keep_alive=-1).seconds_left(datetime(2026, 1, 1, tzinfo=UTC)) > 9e9


def test_an_unknown_model_is_an_error_that_says_how_to_get_it(client):
    for call in (lambda: client.embed("nix", "x"), lambda: client.show("nix"), lambda: client.unload("nix")):
        with pytest.raises(ModelNotFoundError, match="ollama pull nix"):
            call()


def test_what_a_model_is(client, server):
    details = client.show("tiny")
    assert (details.context, details.dim, details.parameters) == (2048, 32, 22_565_376)
    assert details.capabilities == ("embedding",)
    [installed] = client.tags()
    assert (installed.name, installed.digest, installed.remote_host) == ("tiny:latest", "a" * 64, None)


def test_a_server_without_embed_is_named_as_old(client, server):
    server.has_embed = False
    with pytest.raises(OldServerError, match="Update"):
        client.embed("tiny", "x")


def test_health_says_what_is_wrong_and_raises_nothing(client, server):
    assert client.health().version == "0.33.0"
    server.stop()
    health = client.health()
    assert (health.ok, health.version) == (False, None)
    assert "cannot be reached" in health.error
    server.start()
    assert client.wait_until_ready() == "0.33.0"


def test_waiting_for_a_server_ends_when_it_comes_or_when_time_is_up(client, server):
    server.stop()
    with pytest.raises(ModelServerError, match="was not ready within"):
        client.wait_until_ready(wait=0.1)
    threading.Timer(0.2, server.start).start()
    assert client.wait_until_ready(wait=20) == "0.33.0"


def test_an_error_is_never_an_empty_list(client, server):
    server.stop()
    for call in (client.ps, client.tags, client.version):
        with pytest.raises(NoAnswerError, match="ollama serve"):
            call()
    server.start()


def test_another_server_on_the_port_is_noticed(client, server, monkeypatch):
    monkeypatch.setattr(server, "answer", lambda _: Reply(200, {"status": "ok"}))
    assert "another one" in client.health().error
    with pytest.raises(BadAnswerError):
        client.version()
    with pytest.raises(BadAnswerError):
        client.embed("tiny", "x")


def test_a_foreign_host_name_is_explained(client, server):
    server.faults.append(Reply(403))
    with pytest.raises(ModelServerError, match="host name"):
        client.embed("tiny", "x")


# -- names


@pytest.mark.parametrize(
    "name", ["tiny", "tiny:latest", "Tiny:Latest", "library/tiny", "registry.ollama.ai/library/tiny:latest", " tiny "]
)
def test_one_model_has_one_name(name):
    assert canonical_name(name) == "tiny"


def test_a_tag_is_part_of_the_name():
    assert canonical_name("tiny:v1.5") == "tiny:v1.5"
    assert canonical_name("hf.co/someone/tiny:q8") == "hf.co/someone/tiny:q8"


# -- how long a model is kept

KEEP = {
    "minutes": ("5m", "5m"),
    "mixed": ("1h30m", "1h30m"),
    "minus-one-in-a-string": ("-1", -1),
    "zero-in-a-string": ("0", 0),
    "number-in-a-string": ("300", 300),
    "number": (300, 300),
    "fraction": (0.5, 0.5),
    "negative-duration": ("-1m", "-1m"),
    "timedelta": (timedelta(minutes=5), 300),
    "spaces": (" 5m ", "5m"),
}


@pytest.mark.parametrize(("given", "sent"), KEEP.values(), ids=KEEP)
def test_how_long_a_model_is_kept_is_sent_in_a_form_the_server_takes(client, given, sent):
    assert keep_alive_value(given) == sent
    assert type(keep_alive_value(given)) is type(sent)
    client.embed("tiny", "x", keep_alive=given)


@pytest.mark.parametrize("given", ["", "soon", "1d", "5 m", "1h-5m", "m5", float("nan"), float("inf"), 1e300, True])
def test_what_the_server_would_refuse_is_refused_here(given):
    with pytest.raises(ConfigError, match="keep"):
        keep_alive_value(given)


# -- four bugs that a client of this kind once had


def test_an_empty_list_of_models_is_not_a_loaded_model(client):
    assert client.is_loaded("tiny") is False


def test_nothing_is_left_behind(server):
    threads, files = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text()
    for _ in range(3):
        with Ollama(server.url) as client:
            client.load("tiny")
            client.unload("tiny")
        Waited(server.url).embed("tiny", "text")
    assert set(children.read_text().split()) <= set(before.split())
    until(lambda: server.connections == 0)
    until(lambda: threading.active_count() <= threads)
    assert len(list(Path("/proc/self/fd").iterdir())) <= files


def test_memory_is_that_of_the_models_and_not_of_the_whole_machine(client, server):
    server.models["other:latest"] = FakeModel(ram=1_000, vram=2_000)
    client.load("tiny")
    client.load("other")
    running = client.ps()
    assert sum(model.vram_bytes for model in running) == 2_000
    assert sum(model.ram_bytes for model in running) == 300_001_000
