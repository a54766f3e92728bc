"""Where texts and keys go: to the configured server on this machine, and nowhere else."""

import asyncio
import logging

import pytest
from fake_http import Reply
from fake_ollama import FakeOllama

from omnimemory.errors import ConfigError, ModelServerError
from omnimemory.model_servers.ollama import AsyncOllama, Ollama
from omnimemory.model_servers.ollama_records import is_cloud_name


@pytest.fixture
def server():
    with FakeOllama() as fake:
        yield fake


@pytest.fixture
def client(server):
    with Ollama(server.url) as made:
        yield made


def test_the_key_goes_to_the_configured_origin_and_into_no_message(server, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    key = "ollama-key-0123456789"
    server.key = key
    monkeypatch.setenv("OLLAMA_API_KEY", key)
    with Ollama(server.url) as client:
        assert client.version() == "0.33.0"
        server.key = "another"
        with pytest.raises(ModelServerError, match="check the key") as caught:
            client.version()
        server.key = None
        server.models["tiny:latest"].refuses["boom"] = (500, f"bad header: Bearer {key}")
        with pytest.raises(ModelServerError, match="bad header") as repeated:
            client.embed("tiny", "boom")
    assert key not in str(caught.value) + str(repeated.value) + caplog.text + repr(client.__dict__)


def test_a_redirect_is_not_followed(server):
    with FakeOllama() as other, Ollama(server.url, key="secret-key") as client:
        server.faults.append(Reply(307, b"", {"Location": f"{other.url}/api/embed"}))
        with pytest.raises(ModelServerError, match="redirect"):
            client.embed("tiny", "private text")
        assert other.asked == []


def test_a_proxy_from_the_environment_is_not_used_for_this_machine(server, monkeypatch):
    with FakeOllama() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        with Ollama(server.url) as client:
            client.embed("tiny", "private text")
        asyncio.run(_embed_async(server.url))
        assert proxy.asked == []


async def _embed_async(url):
    async with AsyncOllama(url) as client:
        await client.embed("tiny", "private text")


def test_the_environment_says_where_the_server_is(server, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", f"0.0.0.0:{server.port}")
    with Ollama() as client:
        assert client.url == server.url
        assert client.version()


@pytest.mark.parametrize("kind", [Ollama, AsyncOllama])
def test_another_machine_has_to_be_allowed(kind):
    with pytest.raises(ConfigError, match="allow_remote"):
        kind("https://example.com")
    assert kind("https://example.com", allow_remote=True).url == "https://example.com"


def test_a_cloud_model_has_to_be_allowed(client, server):
    with pytest.raises(ConfigError, match="allow_cloud"):
        client.embed("gpt-oss:120b-cloud", "private text")
    assert server.asked == []


@pytest.mark.parametrize(
    ("name", "cloud"),
    [("x:cloud", True), ("gpt-oss:120b-cloud", True), ("X:Cloud", True), ("cloud", False), ("my/cloud:8b", False)],
)
def test_names_of_cloud_models(name, cloud):
    assert is_cloud_name(name) is cloud
