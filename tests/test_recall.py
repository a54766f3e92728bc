"""How it was done before: similar sessions, routines, repairs."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from omnimemory.cli import cli
from omnimemory.errors import ConfigError

T = 1_700_000_000.5


def play(memory, *sessions: list[tuple[str, int]], cwd: str = "/api", at: float = T) -> None:
    for number, session in enumerate(sessions):
        for step, (command, code) in enumerate(session):
            when = at + 10_000 * number + step
            memory.record(command, code, cwd, timestamp=when, session=f"{at}-{number}", shell="zsh")


DEPLOY = [("git pull", 0), ("docker build .", 0), ("docker push app", 0), ("kubectl rollout status", 0)]
NOTES = [("vim diary.md", 0), ("git add diary.md", 0), ("git commit -m wip", 0)]


def test_what_was_done_before_is_found_with_what_came_next(memory):
    play(memory, DEPLOY, NOTES)
    best, *_ = memory.similar_sessions(["git pull", "docker build ."])
    assert best.commands == ("git pull", "docker build .")
    assert best.followed == ("docker push app", "kubectl rollout status")
    assert best.score == pytest.approx(1, abs=1e-5)
    assert (best.worked, best.cwd, best.timestamp) == (True, "/api", T + 1)


def test_what_is_recorded_or_forgotten_since_is_known_at_the_next_question(memory):
    play(memory, DEPLOY)
    assert memory.similar_sessions(["git pull"])[0].followed[0] == "docker build ."
    play(memory, [("make", 0), ("make install", 0)], at=T + 90_000)
    assert memory.similar_sessions(["make"])[0].followed == ("make install",)
    memory.forget(pattern="make install")
    assert "make install" not in repr(memory.similar_sessions(["make"], k=9))


def test_scores_are_those_of_sequence_vectors_one_by_one(memory):
    lines = [f"{word} {name}" for word in ("git add", "make", "npm run") for name in "abcd"]
    play(memory, [(line, 0) for line in lines])
    embeddings = memory.embeddings
    query = embeddings.embed_command_sequence(["git add x", "make y"]).sequence_embedding
    for one in memory.similar_sessions(["git add x", "make y"], k=5):
        made = embeddings.embed_command_sequence(list(one.commands)).sequence_embedding
        assert one.score == pytest.approx(float(made @ query), abs=1e-5)


def test_a_foreign_command_in_the_context_does_not_hide_it(memory):
    play(memory, DEPLOY, NOTES)
    assert "docker push app" in memory.similar_sessions(["git pull", "ls", "docker build ."])[0].followed


def test_order_matters(memory):
    play(memory, [("make", 0), ("ls", 0), ("make", 0), ("vim a", 0)], [("vim a", 0), ("make", 0), ("ls", 0)])
    assert memory.similar_sessions(["vim a", "make"])[0].followed == ("ls",)


def test_sessions_are_not_mixed(memory):
    play(memory, [("git pull", 0)], [("docker build .", 0), ("ls", 0)])
    assert all(len(one.commands) == 1 for one in memory.similar_sessions(["git pull", "docker build ."]))


def test_without_a_context_the_last_commands_count_and_are_not_found_themselves(memory):
    play(memory, DEPLOY, DEPLOY[:2])
    best = memory.similar_sessions()[0]
    assert best.followed == ("docker push app", "kubectl rollout status")
    assert best.timestamp == T + 1


def test_nothing_is_like_nothing(memory):
    assert memory.similar_sessions(["ls"]) == []
    assert memory.similar_sessions() == []
    assert memory.workflows() == []
    assert memory.why_failed() == []
    with pytest.raises(ConfigError, match="a list of commands"):
        memory.similar_sessions("ls")


def test_routines_are_found_with_their_success(memory):
    failing = [("git pull", 0), ("docker build .", 1), ("docker push app", 0), ("kubectl rollout status", 0)]
    play(memory, DEPLOY, [*DEPLOY[:2], ("ls", 0), *DEPLOY[2:]], failing, NOTES)
    (one,) = memory.workflows()
    assert one.name == "git pull > docker build > docker push > kubectl rollout"
    assert one.commands == tuple(command for command, _ in DEPLOY)
    assert (one.support, one.worked, one.failed) == (3, 2, 1)
    assert one.success_rate == pytest.approx(2 / 3)
    assert memory.workflows(support=4) == []
    with pytest.raises(ConfigError, match="no routine"):
        memory.workflows(support=1)


def test_variants_of_a_routine_are_one(memory):
    kinds = [[*DEPLOY[:2], (f"./check{n % 2}", 0), *DEPLOY[2:]] for n in range(8)]
    play(memory, *kinds, *[NOTES] * 3)
    assert [(one.steps[0], one.support) for one in memory.workflows()] == [("git pull", 8), ("vim <path>", 3)]


@pytest.mark.parametrize(
    ("sessions", "asked", "commands", "why"),
    [
        ([[("make", 2), ("./configure", 0), ("make", 0)]], "make", ("./configure",), "`make` worked once after this"),
        ([[("gti status", 127), ("git status", 0)]], "gti status", ("git status",), "worked once instead of `gti"),
        ([[("ping x", 1), ("ping x", 0)]] * 2, "ping x", ("ping x",), "`ping x` worked 2 times when it was run again"),
        ([[("npm test", 1), ("npm ci", 0), ("npm test", 0)]], "npm start", ("npm ci",), "`npm test` worked once after"),
        ([[("make", 1), ("ls", 1), ("make", 1), ("fix", 0), ("make", 0)]], None, ("fix",), "`make` worked once after"),
    ],
    ids=["then", "instead", "again", "the-same-program", "the-last-that-failed"],
)
def test_what_helped_is_told(memory, sessions, asked, commands, why):
    play(memory, *sessions)
    best = memory.why_failed(asked)[0]
    assert best.commands == commands
    assert best.why.startswith(why)


def test_what_never_failed_needs_no_repair(memory):
    play(memory, DEPLOY)
    assert memory.why_failed("git pull") == []


def test_what_is_forgotten_is_in_none_of_them(memory):
    play(memory, *[[("git pull", 0), ("./secret-tool", 1), ("./fix-secret", 0), ("./secret-tool", 0)]] * 3)
    memory.forget(pattern="secret")
    told = repr((memory.workflows(), memory.why_failed("./secret-tool"), memory.similar_sessions(["git pull"])))
    assert "secret" not in told


def test_histories_that_keep_each_command_once_tell_no_sessions(memory, tmp_path):
    path = tmp_path / "fish_history"
    path.write_text("".join(f"- cmd: {text}\n  when: {1_700_000_000 + at}\n" for at, text in enumerate("abc" * 3)))
    memory.ingest_history(path)
    assert memory.similar_sessions(["a"]) == []


def test_the_commands_tell_the_same(monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "false")
    from omnimemory import Memory

    with Memory() as memory:
        play(memory, DEPLOY, DEPLOY, DEPLOY, [("make", 2), ("./configure", 0), ("make", 0)])

    def told(*arguments: str) -> list:
        done = CliRunner().invoke(cli, list(arguments))
        assert done.exit_code == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    assert told("sessions", "git pull")[0]["followed"][0] == "docker build ."
    assert told("workflows", "-k", "1")[0]["support"] == 3
    assert told("why-failed", "make")[0]["commands"] == ["./configure"]
    script = CliRunner().invoke(cli, ["workflows", "1", "--as", "script"]).stdout
    assert script.startswith("#!/bin/sh\n")
    assert "\ndocker push app\n" in script
    assert CliRunner().invoke(cli, ["workflows", "1", "--as", "alias"]).stdout.startswith("alias git-pull-docker")
    for wrong in (["workflows", "--as", "alias"], ["workflows", "99"]):
        assert CliRunner().invoke(cli, wrong).exit_code == 2
