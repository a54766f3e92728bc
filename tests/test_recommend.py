"""Which model is recommended: what fits, what is large enough, in an order with true reasons."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from fake_ollama import FakeModel, FakeOllama
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.cli import cli
from omnimemory.errors import ConfigError
from omnimemory.memory import Memory
from omnimemory.recommending.complexity import LEVELS, complexity_of
from omnimemory.recommending.recommend import Candidate, recommend

GIB = 1 << 30
PLAIN, HARD = (
    "undo the last commit",
    (
        "Compare how long the backups of service A and of service B took between 2023-01 and 2023-06, explain which "
        "changes made the difference, and say for each of them whether we should go back"
    ),
)


@pytest.mark.parametrize(
    ("question", "level"),
    [
        ("", "low"),
        (PLAIN, "low"),
        ("データベースを復元", "low"),
        ("how do we deploy the api to staging, and roll it back when the migration fails?", "medium"),
        (HARD, "high"),
        (
            "Is a beta blocker safe with asthma, and which dose, compared to the usual one, after a heart attack?",
            "high",
        ),
    ],
    ids=["empty", "plain", "without spaces", "two clauses", "hard", "another subject"],
)
def test_a_question_is_as_hard_as_its_form(question, level):
    found = complexity_of(question)
    assert found.level == level
    assert (found.k, found.rerank) == {"low": (5, False), "medium": (10, False), "high": (20, True)}[level]


@given(st.text(max_size=300), st.sampled_from([", and then", " or 17 of them", ' "quoted words"', " A/B <= 3"]))
def test_a_question_with_more_in_it_is_not_easier(question, more):
    before, after = complexity_of(question), complexity_of(f"{question} so{more}")
    assert 0 <= before.score <= after.score <= 1


def test_a_level_may_be_given_and_another_word_is_an_error():
    assert complexity_of(PLAIN, "high").k == 20
    with pytest.raises(ConfigError, match="low, medium, high"):
        complexity_of(PLAIN, "hardest")


CANDIDATES = st.builds(
    Candidate,
    name=st.text("abc", min_size=1, max_size=3),
    kind=st.sampled_from(["embedding", "chat"]),
    bytes=st.integers(1, 20 * GIB),
    ready=st.booleans(),
    parameters=st.none() | st.integers(1, 10**11),
)


@given(st.lists(CANDIDATES, max_size=12), st.integers(0, 20 * GIB), st.sampled_from(LEVELS))
def test_what_does_not_fit_is_never_before_what_does(candidates, room, level):
    found = recommend(candidates, lambda one: (one.bytes <= room, f"{room} free"), "q", level=level)
    for options in (found.embedding, found.chat):
        fitting = [option.fits for option in options]
        assert fitting == sorted(fitting, reverse=True)
        assert all(option.fits == (option.bytes <= room) for option in options)
    assert len(found.embedding) + len(found.chat) == len(candidates)


BILLION = 10**9
CHAT = [Candidate(f"{size}b", "chat", size * GIB, parameters=size * BILLION) for size in (1, 3, 8, 70)]


@pytest.mark.parametrize(
    ("level", "room", "order"),
    [
        ("low", 80, ["1b", "3b", "8b", "70b"]),
        ("medium", 80, ["3b", "8b", "70b", "1b"]),
        ("high", 80, ["8b", "70b", "3b", "1b"]),
        # A hard question and little memory: the largest that fits, not the smallest there is.
        ("high", 4, ["3b", "1b", "8b", "70b"]),
    ],
)
def test_the_smallest_chat_model_that_is_large_enough_comes_first(level, room, order):
    found = recommend(CHAT, lambda one: (one.bytes <= room * GIB, "said"), "a question", level=level)
    assert [option.name for option in found.chat] == order
    assert ("poorer" in found.chat[0].reason) == (room == 4)


def test_an_embedding_model_that_is_here_comes_before_one_that_must_be_fetched():
    small = Candidate("small", "embedding", GIB)
    known = Candidate("known", "embedding", GIB, ready=False, fetch="pull it", measured="It found most.")
    large = Candidate("large", "embedding", 9 * GIB, ready=False, fetch="pull it")
    found = recommend([large, known, small, replace(small, name="more", bytes=2 * GIB)], lambda _: (True, "it fits"))
    assert [option.name for option in found.embedding] == ["more", "small", "known", "large"]
    assert found.embedding[2].reason == "It found most. pull it"
    assert found.chat == ()
    assert found.question is None


@pytest.fixture
def fake():
    chat = FakeModel(completion=True, parameters=8 * BILLION, disk=5 * GIB)
    models = {
        "embed:latest": FakeModel(),
        "chat:8b": chat,
        "chat:1b": replace(chat, parameters=BILLION, disk=GIB),
        "away:cloud": replace(chat, remote_host="https://ollama.com"),
    }
    with FakeOllama(models) as server:
        yield server


@pytest.mark.parametrize("room", [16, 3])
def test_what_can_load_would_refuse_is_never_recommended(settings, fake, room):
    values = {"servers.ollama_url": fake.url, "servers.connect_timeout": 5.0, "memory.max_bytes": room * GIB}
    with Memory(settings=settings.with_values(values)) as memory:
        found = memory.models.recommend(HARD)
        assert [option.name for option in found.chat] == (
            ["ollama:chat:8b", "ollama:chat:1b"] if room == 16 else ["ollama:chat:1b", "ollama:chat:8b"]
        )
        assert found.chat[1].fits == (room == 16)
        assert "ollama:embed" in " ".join(option.name for option in found.embedding)
        assert found.embedding[0].fits
        for option in (*found.chat, *(one for one in found.embedding if one.ready)):
            assert memory.models.can_load(option.name)[0] == option.fits, option
        assert ["away:cloud" in each for each in found.notes] == [True]


def test_a_level_goes_before_the_look_of_a_question_and_a_server_that_is_down_is_told(settings, tmp_path):
    with Memory(settings=settings.with_values({"servers.ollama_url": "http://127.0.0.1:9"})) as memory:
        found = memory.models.recommend(level="high")
    assert (found.question.level, found.chat, found.embedding[0].name) == ("high", (), "static")
    assert "127.0.0.1:9" in found.notes[0]


def test_the_command_says_the_same(fake, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_SERVERS_OLLAMA_URL", fake.url)
    done = CliRunner().invoke(cli, ["models", "recommend", *HARD.split(), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["question"]["level"] == "high"
    assert said["chat"][0]["name"] == "ollama:chat:8b"
    assert [one["name"] for one in said["embedding"] if one["ready"]] == ["ollama:embed", "static"]
    assert all(one["fits"] and "MiB" in one["reason"] for one in said["embedding"] if one["ready"])
