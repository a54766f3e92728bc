"""``next_command``: predictions from the events that a store holds."""

import pytest

from omnimemory import ConfigError, Memory
from omnimemory.procedure.recorded import NEWEST


def history(path, *lines):
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f": {stamp}:0;{command}\n" for stamp, command in lines)
    return path


def routine(start, *commands, pause=5):
    return [(start + pause * place, command) for place, command in enumerate(commands)]


def first(memory, *context, **options):
    found = memory.next_command(list(context), k=1, **options)
    return found[0].command if found else None


@pytest.fixture
def git_history(tmp_path):
    lines = [
        line
        for day in range(4)
        for line in routine(1_700_000_000 + 86_400 * day, "git add .", "git commit", "git push")
    ]
    return history(tmp_path / "zsh_history", *lines)


def test_an_empty_memory_predicts_nothing(memory):
    assert memory.next_command(["ls"]) == []


def test_it_tells_what_followed_in_the_history(memory, git_history):
    memory.ingest_history(git_history)
    assert first(memory, "git add .") == "git commit"
    assert first(memory, "git add .", "git commit") == "git push"


def test_without_a_context_it_goes_on_from_what_was_recorded_last(memory, git_history):
    history(git_history, *routine(1_700_900_000, "git add ."))
    memory.ingest_history(git_history)
    assert memory.next_command(k=1)[0].command == "git commit"


def test_a_history_that_grows_is_followed(memory, git_history):
    memory.ingest_history(git_history)
    assert first(memory, "make test") != "make deploy"
    for day in range(5):
        history(git_history, *routine(1_701_000_000 + 86_400 * day, "make test", "make deploy"))
    memory.ingest_history(git_history)
    assert first(memory, "make test") == "make deploy"
    with Memory(settings=memory.settings) as again:
        anew, followed = (one.next_command(["make test"], k=9) for one in (again, memory))
    assert [(one.command, one.why) for one in anew] == [(one.command, one.why) for one in followed]
    assert [one.probability for one in anew] == pytest.approx([one.probability for one in followed])


def test_a_long_pause_ends_a_session(settings, tmp_path):
    path = history(
        tmp_path / "zsh_history",
        *[line for day in range(6) for line in routine(1_700_000_000 + 86_400 * day, "make", "ls", pause=4000)],
    )
    probabilities = {}
    for gap in (1800.0, 7200.0):
        values = {"history.session_gap": gap, "store.path": tmp_path / f"store{gap}"}
        with Memory(settings=settings.with_values(values)) as memory:
            memory.ingest_history(path)
            probabilities[gap] = [one.why for one in memory.next_command(["make"], k=1)]
    assert probabilities[7200.0] == ["seen 6 times after `make`"]
    assert probabilities[1800.0] != probabilities[7200.0]


def test_histories_that_keep_each_command_once_teach_no_transitions(memory, tmp_path):
    path = tmp_path / "fish_history"
    path.write_text(
        "".join(
            f"- cmd: {command}\n  when: {1_700_000_000 + place}\n"
            for place, command in enumerate(["make", "make install", "ls"])
        )
    )
    memory.ingest_history(path, shell="fish")
    found = memory.next_command(["make"], k=3)
    assert {one.command for one in found} == {"make", "make install", "ls"}
    assert not [one.why for one in found if "after" in one.why]


def test_a_long_history_is_learnt_from_its_newest_events_on_and_followed_from_there(memory, tmp_path):
    lines = routine(1_700_000_000, "old", "older", *["git add .", "git commit"] * (NEWEST // 2))
    memory.ingest_history(history(tmp_path / "zsh_history", *lines))
    (best,) = memory.next_command(["git add ."], k=1)
    assert (best.command, best.why) == ("git commit", f"seen {NEWEST // 2:,} times after `git add .`".replace(",", ""))
    assert "older" not in {found.command for found in memory.next_command(["old"], k=100)}
    memory.ingest_history(history(tmp_path / "zsh_history", *routine(1_800_000_000, "make", "make install")))
    assert first(memory, "make") == "make install"
    assert memory.next_command(["git add ."], k=1)[0].why == best.why  # nothing was learnt twice


def test_a_secret_in_the_context_is_found_under_its_redacted_name(memory, tmp_path):
    secret = "hunter" + "2secret"
    lines = [
        line
        for day in range(4)
        for line in routine(1_700_000_000 + 86_400 * day, f"mysql --password={secret} shop", "make report")
    ]
    memory.ingest_history(history(tmp_path / "zsh_history", *lines))
    (best,) = memory.next_command([f"mysql --password={secret} shop"], k=1)
    assert best.command == "make report"
    assert secret not in best.why


def test_blank_commands_in_the_context_are_none(memory, git_history):
    memory.ingest_history(git_history)
    assert memory.next_command(["git add .", "", " "]) == memory.next_command(["git add ."])
    assert memory.next_command([""]) == memory.next_command([])


def test_a_single_string_is_refused_with_the_right_form(memory):
    with pytest.raises(ConfigError, match=r"next_command\(\['git add"):
        memory.next_command("git add .")
