"""Measuring searches: the arithmetic by hand, both forms of a file, the command on a generated one."""

import json
import random

import numpy as np
import pytest
from click.testing import CliRunner

from omnimemory.cli import cli
from omnimemory.errors import SourceError
from omnimemory.evaluation.questions import MODES, Question, ask, questions_of, read_pairs, table

PAIRS = [("undo the last commit", "git reset --soft HEAD~1"), ("list files", "ls"), ("list files", "ls -l")]


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{description}\t{command}\n" for description, command in PAIRS),
        "\ufeffpage\tdescription\tcommand\r\n" + "".join(f"p\t{one}\t{two}\r\n" for one, two in PAIRS),
        "Command\tDescription\n\n" + "".join(f"{two}\t {one} \n" for one, two in PAIRS),
        "".join(json.dumps({"command": two, "page": 1, "description": one}) + "\n" for one, two in PAIRS),
    ],
    ids=["two columns", "named columns, of Windows", "another order", "JSON Lines"],
)
def test_a_file_of_either_form_is_read(tmp_path, text):
    path = tmp_path / "questions"
    path.write_bytes(text.encode())
    assert read_pairs(path) == PAIRS


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "holds no questions"),
        (b"description\tcommand\n", "holds no questions"),
        (b"one\tls\ntwo\n", "line 2: 1 columns where 2 are expected"),
        (b"page\ttext\tls\n", "line 1: 3 columns"),
        (b"list files\t \n", "line 1: there is no description or no command"),
        (b'{"description": "a", "command": "ls"}\n{"description": "a"', "line 2: this is not JSON"),
        (b'{"description": "a", "command": 3}\n', "line 1: there is no description or no command"),
        (b"a\tls\n\xff\tls\n", "not UTF-8"),
    ],
    ids=["empty", "names only", "no tab", "no names", "no command", "half a line", "a number", "not UTF-8"],
)
def test_what_is_no_such_file_is_told_with_its_line(tmp_path, data, told):
    path = tmp_path / "questions"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=told):
        read_pairs(path)


def test_a_folder_and_a_missing_file_are_told(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(SourceError, match="cannot be read"):
            read_pairs(path)


def test_right_are_all_commands_of_a_description_that_are_stored():
    pairs = [*PAIRS, ("log in", "login pw"), ("gone", "rm x")]
    questions = questions_of(pairs, ["ls", "ls  -l", "login [REDACTED]"], lambda text: text.replace("pw", "[REDACTED]"))
    assert questions == [
        Question("list files", frozenset({"ls", "ls -l"})),
        Question("log in", frozenset({"login [REDACTED]"})),
    ]


def test_the_rank_is_that_of_the_first_right_command_among_ten():
    answers = {
        "keyword": ["x", "ls  -l", "ls"],
        "vector": [*"abcdefghij", "ls"],
        "hybrid": ["ls"],
    }
    ranks = ask([Question("list files", frozenset({"ls", "ls -l"}))], lambda _, mode: answers[mode])
    assert {mode: list(found) for mode, found in ranks.items()} == {"keyword": [2], "vector": [0], "hybrid": [1]}


def test_measures_and_differences_are_means_with_paired_intervals():
    one, two = np.array([1, 0] * 20), np.array([2, 0] * 20)
    rows = {str(row["mode"]): row for row in table({"keyword": two, "vector": two * 0, "hybrid": one})}
    assert list(rows) == list(MODES)
    assert (rows["hybrid"]["recall10"], rows["hybrid"]["mrr10"]) == (0.5, 0.5)
    assert (rows["keyword"]["recall10"], rows["keyword"]["mrr10"]) == (0.5, 0.25)
    assert rows["vector"]["mrr10_interval"] == (0.0, 0.0, 0.0)
    lower, mean, upper = rows["hybrid"]["mrr10_interval"]
    assert 0.3 < lower < mean < upper < 0.7
    assert rows["keyword"]["hybrid_better_by"]["recall10"] == (0.0, 0.0, 0.0), "the draws are not the same for both"
    assert rows["keyword"]["hybrid_better_by"]["mrr10"][0] > 0
    assert "hybrid_better_by" not in rows["hybrid"]


def words(seed, count):
    draw = random.Random(seed)
    return ["".join(draw.choices("bcdfghklmnprstvw", k=7)) for _ in range(count)]


def test_the_command_measures_every_mode_and_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("OMNIMEMORY_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("OMNIMEMORY_CACHE_PATH", str(tmp_path / "cache"))
    path = tmp_path / "questions.tsv"
    path.write_text("".join(f"please {name} now\t{name} --run\n" for name in words(5, 40)))
    done = CliRunner().invoke(cli, ["eval", "search", str(path), "--questions", "25", "--json"])
    assert done.exit_code == 0, done.output
    rows = {row["mode"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert list(rows) == list(MODES)
    assert rows["keyword"]["recall10"] == rows["keyword"]["mrr10"] == 1.0  # each name is in one command only
    assert all(0 <= rows[mode][name] <= 1 for mode in MODES for name in ("recall10", "mrr10"))
    assert "25 of 40 questions against 40 commands" in done.stderr
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "cache").exists()
    assert not list((tmp_path / "temporary").iterdir())


def test_a_secret_in_a_command_is_taken_out_on_both_sides(tmp_path, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_CACHE_PATH", str(tmp_path / "cache"))
    path = tmp_path / "questions.jsonl"
    secret = "".join(random.Random(3).choices("abcdefghkmnpqrstuvwxyz23456789", k=24))
    lines = [{"description": "log in to the database", "command": f"mysql --password={secret} shop"}]
    lines += [{"description": f"show {name}", "command": f"cat {name}"} for name in words(6, 5)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = CliRunner().invoke(cli, ["eval", "search", str(path)])
    assert done.exit_code == 0, done.output
    assert "6 of 6 questions against 6 commands" in done.stderr
    assert secret not in done.output


def test_commands_that_cannot_be_stored_end_with_a_word(tmp_path):
    path = tmp_path / "questions.tsv"
    path.write_text("forget it\tomnimemory forget --pattern x\n")
    done = CliRunner().invoke(cli, ["eval", "search", str(path)])
    assert (done.exit_code, done.stdout) == (0, "")
    assert "None of the commands" in done.stderr
