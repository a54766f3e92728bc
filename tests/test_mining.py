"""Routines: mined as brute force would find them, told by shape, printed and never run."""

from __future__ import annotations

import shutil
import subprocess
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.procedure.mining import mine
from omnimemory.procedure.records import Workflow
from omnimemory.procedure.templates import shape, short_name
from omnimemory.procedure.workflows import as_alias, as_script

SEQUENCES = st.lists(st.lists(st.integers(0, 3), max_size=9), max_size=4)


def brute_force(sequences: list[list[int]], support: int, gap: int) -> dict[tuple[int, ...], int]:
    """Count every sequence of up to four steps by looking at all choices of places."""
    places: dict[tuple[int, ...], list[tuple[int, int, int]]] = {}
    for number, sequence in enumerate(sequences):
        for length in (2, 3, 4):
            for chosen in combinations(range(len(sequence)), length):
                steps = tuple(sequence[at] for at in chosen)
                near = all(b - a <= gap + 1 for a, b in pairwise(chosen))
                if near and all(a != b for a, b in pairwise(steps)):
                    places.setdefault(steps, []).append((number, chosen[0], chosen[-1]))
    return {steps: count for steps, found in places.items() if (count := most_apart(found)) >= support}


def most_apart(places: list[tuple[int, int, int]]) -> int:
    count, last = 0, (-1, -1)
    for number, start, end in sorted(places, key=lambda place: (place[0], place[2], -place[1])):
        if number != last[0] or start > last[1]:
            count, last = count + 1, (number, end)
    return count


@given(SEQUENCES, st.integers(1, 3), st.integers(0, 2))
def test_it_finds_what_brute_force_finds(sequences, support, gap):
    every = brute_force(sequences, support, gap)
    found = {one.steps: one.support for one in mine(sequences, support=support, gap=gap, longest=4)}
    assert found.items() <= every.items()
    for steps, count in every.items():  # what is not told is contained in what is, and as frequent
        assert any(count == found[other] and is_within(steps, other) for other in found), (steps, count)


def is_within(short: tuple[int, ...], longer: tuple[int, ...]) -> bool:
    rest = iter(longer)
    return all(step in rest for step in short)


def test_the_seeds_own_example_is_found():
    assert [one.steps for one in mine([[0, 1]] * 5, support=3)] == [(0, 1)]
    assert [(one.steps, one.support) for one in mine([[0, 1, 2]] * 5, support=3)] == [((0, 1, 2), 5)]


def test_a_routine_repeated_within_one_session_is_found_with_others_in_between():
    found = mine([[0, 9, 1, 2, 8, 0, 1, 7, 6, 2, 5, 0, 1, 2]], support=3)
    assert [(one.steps, one.support) for one in found] == [((0, 1, 2), 3)]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("git commit -m 'fix typo'", "git commit -m <text>"),
        ("git checkout v1.2", "git checkout <name>"),
        ("pip install numpy==1.26.4", "pip install <name>"),
        ("vim ~/my-file.txt", "vim <path>"),
        ("ssh root@10.0.0.1:", "ssh <url>"),
        ("curl -sSL https://x.org/a", "curl -sSL <url>"),
        ("head -n 5 a.log | sort", "head -n <number> <path> | sort"),
        ("FOO=1 make test", "<variable> make test"),
        ("docker run --name=web nginx", "docker run --name=<value> <name>"),
        ("/usr/bin/python3 setup.py", "python3 <path>"),
        ("echo 'open", "echo <text>"),
        ("git add a.py b.py c.py", "git add <path>"),
    ],
)
def test_commands_have_shapes(command, expected):
    assert shape(command) == expected


@given(st.text(max_size=60))
def test_every_text_has_a_shape(text):
    assert "\n" not in shape(text)
    short_name(shape(text))


def workflow(*commands: str) -> Workflow:
    return Workflow("git add > it's", tuple(map(shape, commands)), commands, 3, 3, 0, None, None)


def test_a_script_stops_at_the_first_failure_and_runs_no_redacted_command(tmp_path):
    script = as_script(workflow("echo one", "mysql -p[REDACTED:password]\nx", "false", "echo two"))
    (tmp_path / "s").write_text(script)
    done = subprocess.run(["sh", str(tmp_path / "s")], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode, done.stderr) == ("one\n", 1, "")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_an_alias_means_what_was_run(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    alias = as_alias(workflow("echo 'one'", "for i in 1 2\ndo echo $i\ndone"))
    expand = "shopt -s expand_aliases\n" if shell == "bash" else "setopt aliases\n"
    (tmp_path / "s").write_text(f"{expand}{alias}git-add-it-s\n")
    done = subprocess.run([shell, str(tmp_path / "s")], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["one", "1", "2"]
