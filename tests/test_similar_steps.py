"""Steps like one that is asked for: from a command to the next, by both of their vectors or one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from omnimemory import ConfigError, Memory
from omnimemory.cli import cli
from omnimemory.procedure.stored_steps import transition_table
from omnimemory.storage.vectors import read_vectors

T = 1_700_000_000


def play(memory, *sessions: list[str], code: int | None = 0) -> None:
    for number, session in enumerate(sessions):
        for step, command in enumerate(session):
            memory.record(command, code, "/home/ann/api", timestamp=T + 10_000 * number + step, session=f"s{number}")


SESSIONS = [["cd web", "npm test", "git push"], ["cd web", "npm test"], ["cd api", "make test"], ["ls", "git status"]]


def test_what_came_after_something_like_a_command_is_told_with_how_often_and_how(memory):
    play(memory, *SESSIONS)
    best, *others = memory.similar_steps("cd web")
    assert (best.before, best.after, best.times, best.worked) == ("cd web", "npm test", 2, True)
    assert (best.cwd, best.timestamp) == ("~/api", T + 10_001)
    assert best.score == pytest.approx(1, abs=1e-5)
    assert others[0].before == "cd api"  # never asked for, but alike
    scores = [one.score for one in (best, *others)]
    assert scores == sorted(scores, reverse=True)


def test_what_led_to_a_command_and_steps_like_a_whole_one_are_told(memory):
    play(memory, *SESSIONS)
    assert memory.similar_steps(after="git push")[0].before == "npm test"
    assert memory.similar_steps("cd frontend", "npm run test")[0].after == "npm test"
    (both,) = memory.similar_steps("cd web", "npm test", k=1)
    assert both.score == pytest.approx(1, abs=1e-5)


def test_the_score_is_the_cosine_of_the_stored_transition_vectors(memory, tmp_path):
    lines = [f"{word} {name}" for word in ("git add", "make", "npm run", "ls", "docker build") for name in "abcdefgh"]
    path = tmp_path / "history"
    path.write_text("".join(f": {T + at}:0;{line}\n" for at, line in enumerate(lines)))
    memory.ingest_history(path, shell="zsh")
    table = transition_table(memory.store)
    ((_, items, stored),) = read_vectors(memory.store.catalog, table.collection)
    texts = {item.text: row for row, item in table.items(items.tolist()).items()}
    step = memory.embeddings.embed_command_sequence(["git add q", "make q"])
    whole, half = step.transition_embeddings[0], stored.shape[1] // 2
    for asked, query in (
        (("git add q", "make q"), whole),
        (("git add q", None), np.concatenate([whole[:half], np.zeros(half)]) * 2),
        ((None, "make q"), np.concatenate([np.zeros(half), whole[half:]]) * 2),
    ):
        exact = dict(zip(items.tolist(), (stored @ query).tolist(), strict=True))
        found = memory.similar_steps(*asked, k=len(lines))
        assert len(found) == sum(score > 1e-6 for score in exact.values()) > 10
        for one in found:
            assert one.score == pytest.approx(exact[texts[f"{one.before}\n{one.after}"]], abs=1e-5)


def test_all_steps_are_compared_however_few_are_kept_as_vectors(settings, tmp_path):
    found = []
    for kept in (1, 1000):
        with Memory(
            settings=settings.with_values({"history.steps": kept, "store.path": tmp_path / str(kept)})
        ) as memory:
            play(memory, *SESSIONS)
            memory.maintain()
            assert (memory.store.catalog.value("SELECT count(*) FROM transitions") == 1) is (kept == 1)
            found.append(memory.similar_steps("cd web", k=10))
    assert found[0] == found[1]
    assert len(found[0]) > 1


def test_a_new_event_is_taken_in_and_a_forgotten_one_is_gone(memory):
    play(memory, *SESSIONS)
    assert memory.similar_steps("make test", k=1)[0].before != "make test"
    memory.record("make test", 0, timestamp=T + 50_000, session="new")
    memory.record("make deploy", 2, timestamp=T + 50_001, session="new")
    (best,) = memory.similar_steps("make test", k=1)
    assert (best.after, best.worked) == ("make deploy", False)
    memory.forget(after=T + 50_000)
    assert "make deploy" not in repr(memory.similar_steps("make test", k=10))
    play(memory, ["one", "one"])
    assert ("one", "one") not in {(one.before, one.after) for one in memory.similar_steps("one")}  # no step


def test_a_moved_memory_is_asked_with_its_new_vectors(settings):
    with Memory(settings=settings) as memory:
        play(memory, *SESSIONS)
        assert memory.next_command(["cd web"], k=1)[0].command == "npm test"
        assert memory.similar_steps("cd web", k=1)
        memory.reembed(dim=64)
        memory.record("cd web", 0, timestamp=T + 90_000)
        assert memory.next_command(["cd web"], k=1)[0].command == "npm test"
        assert memory.similar_steps("cd web", k=1)[0].after == "npm test"
        assert memory.similar_sessions(["cd web"], k=1)[0].commands == ("cd web",)


def test_what_has_no_vector_is_like_nothing_and_nothing_asked_is_an_error(memory):
    assert memory.similar_steps("ls") == []
    play(memory, *SESSIONS)
    assert memory.similar_sessions(["\u2007"]) == []
    assert memory.similar_steps("ls", k=0) == []
    assert memory.similar_steps("ls\udcff")  # a byte that is no UTF-8, as a command line hands it over
    assert memory.similar_sessions(["ls\udcff"])
    assert memory.next_command(["ls\udcff"])
    for asked in ((), ("",), ("ls", " \u2007")):
        with pytest.raises(ConfigError, match="the command before"):
            memory.similar_steps(*asked)
    for wrong in (memory.next_command, memory.similar_sessions):
        with pytest.raises(ConfigError, match="commands as texts, got None"):
            wrong(["ls", None])


def test_the_command_tells_the_same(monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "false")
    runner = CliRunner()
    assert "There is no memory" in runner.invoke(cli, ["steps", "ls"]).stderr
    with Memory() as memory:
        play(memory, *SESSIONS)
    for arguments in (["cd web", "npm test"], ["cd web", "--to", "npm test"]):
        done = runner.invoke(cli, ["steps", *arguments, "-k", "1", "--json"])
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert (found["before"], found["after"], found["times"]) == ("cd web", "npm test", 2)
    for wrong in (["steps"], ["steps", "a", "b", "--to", "c"]):
        assert runner.invoke(cli, wrong).exit_code == 2
