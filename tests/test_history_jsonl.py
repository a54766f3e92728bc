"""JSON Lines histories: what agents and other tools write."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory import Memory
from omnimemory.records import Event
from omnimemory.sources.history import SHELLS, detect
from omnimemory.sources.history.jsonl import event, parse

FULL = {
    "timestamp": 1700000000.5,
    "command": "make test",
    "cwd": "/home/ann/api",
    "exit_code": 2,
    "duration": 3.5,
    "session": "s1",
    "host": "laptop",
    "shell": "zsh",
}

EVENTS = st.fixed_dictionaries(
    {
        "command": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
            str.strip
        )
    },
    optional={
        "timestamp": st.floats(1, 2e11, allow_nan=False),
        "cwd": st.sampled_from(["/", "/home/ann"]),
        "exit_code": st.integers(-1, 255),
        "duration": st.floats(0, 1e6),
        "session": st.sampled_from(["a", "b"]),
        "host": st.just("laptop"),
        "shell": st.sampled_from(["bash", "agent"]),
    },
)


@given(st.lists(EVENTS, max_size=8))
def test_what_was_written_is_read(written):
    data = "".join(json.dumps(one) + "\n" for one in written).encode()
    assert [entry.event for entry in parse(data)] == [Event(**{"shell": "jsonl", **one}) for one in written]


def test_every_field_is_read():
    (entry,) = parse(json.dumps(FULL).encode())
    assert entry.event == Event(**FULL)
    assert not entry.complete  # without a newline the line may still grow


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("timestamp", "2023-11-14T22:13:20Z", 1700000000.0),
        ("timestamp", "2023-11-14T23:13:20+01:00", 1700000000.0),
        ("timestamp", "2023-11-14T22:13:20", 1700000000.0),
        ("timestamp", "yesterday", None),
        ("timestamp", True, None),
        ("timestamp", -5, None),
        ("timestamp", 10**400, None),
        ("timestamp", 1e300, None),
        ("exit_code", "1", None),
        ("exit_code", 2**70, None),
        ("exit_code", True, None),
        ("duration", -1, None),
        ("duration", "fast", None),
        ("session", 17, "17"),
        ("session", ["a"], None),
        ("cwd", 5, None),
        ("cwd", "/a\0b", "/ab"),
        ("host", "\ud800", "?"),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_a_value_of_the_wrong_kind_costs_the_value_and_not_the_command(name, value, expected):
    found = event(json.dumps({"command": "ls", name: value}).encode(), "jsonl")
    assert (found.command, getattr(found, name)) == ("ls", expected)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b'"ls"',
        b"{}",
        b'{"command": 1}',
        b'{"command": " "}',
        b'{"command": "ls"',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=["empty", "null", "list", "string", "no-command", "number", "blank", "half-written", "not-utf-8", "deep"],
)
def test_a_line_that_is_no_command_is_passed_over(line):
    assert event(line, "jsonl") is None


def test_the_format_is_recognised(tmp_path):
    head = (json.dumps(FULL) + "\n").encode() * 3
    assert detect(head, tmp_path / "agent.log") == "jsonl"
    assert detect(b"ls\ncd /tmp\n", tmp_path / "history") != "jsonl"
    assert SHELLS["jsonl"].looks_like(b"echo '{\"command\": 1}'\n", "x") == 0


def test_it_is_ingested_with_its_outcomes_and_lines_that_are_none_are_reported(memory, tmp_path):
    path = tmp_path / "agent.jsonl"
    lines = [FULL, {**FULL, "timestamp": 1700000100, "exit_code": 0}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{broken}\n\n" + '{"command": "half')
    report = memory.ingest_history(path)
    assert (report.added, report.events, report.failed) == (1, 2, 0)
    assert [failure.reason for failure in report.failures] == ["1 lines that are no commands were left out"]
    (hit,) = memory.search("make test", kind="commands", where={"exit_code": 0})
    assert (hit.metadata["count"], hit.metadata["cwd"]) == (2, "/home/ann/api")
    with path.open("a") as file:
        file.write(' of it", "exit_code": 1}\n')
    assert memory.ingest_history(path).events == 1


def test_failures_in_it_are_not_suggested(settings, tmp_path):
    path = tmp_path / "agent.jsonl"
    steps = [("cd api", 0), ("gti status", 127), ("git status", 0)] * 4
    path.write_text(
        "".join(json.dumps({"command": text, "exit_code": code, "session": "a"}) + "\n" for text, code in steps)
    )
    with Memory(settings=settings) as memory:
        memory.ingest_history(path)
        found = [one.command for one in memory.next_command(["cd api"])]
    assert "git status" in found
    assert "gti status" not in found
