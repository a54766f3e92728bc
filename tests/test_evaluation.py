"""Measuring predictions: the arithmetic by hand, the baselines by their rules, the command on real files."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from omnimemory.cli import cli
from omnimemory.errors import SourceError
from omnimemory.evaluation.baselines import BASELINES
from omnimemory.evaluation.loading import read_steps
from omnimemory.evaluation.next_commands import Calibration, Observed, Outcome, compare, evaluate, interval
from omnimemory.procedure.steps import Step


def taught(name, *commands, cwd=None):
    predictor = BASELINES[name]()
    steps = [Step(command, cwd) for command in commands]
    for place, step in enumerate(steps):
        predictor.learn(steps[max(0, place - 3) : place], step)
    return predictor


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("most frequent", ["ls", "cd", "make"]),
        ("most recent", ["cd", "make", "ls"]),
        ("bigram", ["make", "ls", "cd"]),
        ("match_prev_cmd", ["make", "ls", "cd"]),
        ("IPAM", ["ls", "make", "cd"]),
    ],
)
def test_each_baseline_follows_its_rule(name, expected):
    predictor = taught(name, "ls", "cd", "ls", "ls", "cd", "make", "cd")
    assert predictor.rank([Step("cd")], None, 3) == expected


def test_nothing_learned_ranks_nothing():
    assert {name: make().rank([], None, 5) for name, make in BASELINES.items()} == {name: [] for name in BASELINES}


def test_match_prev_cmd_looks_back_at_two_hundred_events_only():
    predictor = taught("match_prev_cmd", "a", "b", *["x"] * 250)
    assert predictor.rank([Step("a")], None, 1) == ["x"]
    assert taught("bigram", "a", "b", *["x"] * 250).rank([Step("a")], None, 1) == ["b"]


def test_mcfly_prefers_what_is_short_and_what_runs_often():
    often = taught("McFly", "ab", "cd", "cd", "cd", "ab", "cd")
    assert often.rank([], None, 2) == ["cd", "ab"]
    length = taught("McFly", "x" * 40, "ls", "x" * 40, "ls")
    assert length.rank([], None, 1) == ["ls"]


def test_scores_are_means_over_sessions_of_means_over_steps():
    outcome = Outcome()
    for rank in (1, 2, 0, 4):
        outcome.add("a", rank)
    outcome.add("b", 1)
    assert outcome.mean("top1") == pytest.approx((1 / 4 + 1) / 2)
    assert outcome.mean("top3") == pytest.approx((2 / 4 + 1) / 2)
    assert outcome.mean("top5") == pytest.approx((3 / 4 + 1) / 2)
    assert outcome.mean("mrr10") == pytest.approx(((1 + 1 / 2 + 1 / 4) / 4 + 1) / 2)


def test_a_comparison_is_paired():
    ours, theirs = Outcome(), Outcome()
    for number in range(30):
        ours.add(str(number), 1 if number % 2 else 2)
        theirs.add(str(number), 2 if number % 2 else 3)
    lower, mean, upper = compare(ours, theirs, "mrr10")
    assert mean == pytest.approx((1 / 2 + 1 / 6) / 2)
    assert 1 / 6 < lower < mean < upper < 1 / 2
    assert interval([0.25] * 5) == (0.25, 0.25, 0.25)


def test_calibration_is_the_mean_gap_between_promise_and_outcome():
    calibration = Calibration()
    for came in (True, True, True, False):
        calibration.add(0.75, came)
    assert calibration.error() == pytest.approx(0.0)
    for _ in range(4):
        calibration.add(0.35, came=True)
    assert calibration.error() == pytest.approx(4 * 0.65 / 8)


def test_every_step_is_predicted_before_it_is_learned():
    first = [Observed("a", Step(command)) for command in ("git add .", "git commit", "git push")]
    outcomes = evaluate(first)
    assert {name: outcome.mean("mrr10") for name, outcome in outcomes.items()} == dict.fromkeys(outcomes, 0.0)


def test_sessions_share_what_was_learned_unless_they_are_kept_separate():
    steps = [Observed(session, Step(command)) for session in "abcd" for command in ("git add .", "git commit")]
    assert evaluate(steps)["ours"].means("mrr10")["d"] > 0.5
    assert evaluate(steps, separate=True)["ours"].means("mrr10")["d"] == 0.0


def test_sessions_are_named_or_ended_by_a_pause(tmp_path):
    path = tmp_path / "zsh_history"
    path.write_text("".join(f": {stamp}:0;ls\n" for stamp in (1_700_000_000, 1_700_000_100, 1_700_009_000)))
    assert [observed.session for observed in read_steps(path, "zsh", 1800.0)] == ["#0", "#0", "#1"]
    named = tmp_path / "steps.jsonl"
    named.write_text("".join(json.dumps({"command": "ls", "session": name}) + "\n" for name in "aba"))
    assert [observed.session for observed in read_steps(named, None, 1800.0)] == ["a", "b", "a"]


def test_a_history_that_keeps_each_command_once_is_refused(tmp_path):
    path = tmp_path / "fish_history"
    path.write_text("- cmd: ls\n  when: 1700000000\n")
    with pytest.raises(SourceError, match="only once"):
        read_steps(path, "fish", 1800.0)


def test_the_command_compares_on_a_file(tmp_path):
    path = tmp_path / "steps.jsonl"
    lines = [
        {"command": command, "session": str(day)} for day in range(6) for command in ("git add .", "git commit", "ls")
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = CliRunner().invoke(cli, ["eval", "next", str(path), "--json"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    ours = ["ours", "ours, counts alone", "ours, vectors shuffled"]
    assert [row["predictor"] for row in rows] == [*ours, *BASELINES]
    assert rows[0]["mrr10"] > 0.5
    assert all(len(row["ours_better_by"]["mrr10"]) == 3 for row in rows[1:])
    assert "18 steps in 6 sessions" in done.stderr
    lengths = CliRunner().invoke(cli, ["eval", "next", str(path), "--json", "--lengths"])
    names = [json.loads(line)["predictor"] for line in lengths.stdout.splitlines()]
    assert names[:6] == [*ours, *(f"ours, {number} before" for number in ("1 command", "2 commands", "4 commands"))]
    assert names[6:] == [*BASELINES]
    short = CliRunner().invoke(cli, ["eval", "next", str(path), "--last", "4"])
    assert "4 steps in 2 sessions" in short.stderr


DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "edurange" / "dev.jsonl"


@pytest.mark.skipif(not DATA.exists(), reason="needs the public data sets beside the checkout (shared/data)")
def test_on_histories_of_students_ours_is_better_than_every_other():
    steps = read_steps(DATA, None, 1800.0)
    outcomes = evaluate(steps, separate=True)
    for name in ("bigram", "match_prev_cmd", "IPAM", "McFly"):
        for metric in ("mrr10", "top5"):
            assert compare(outcomes["ours"], outcomes[name], metric)[1] > 0, (name, metric)
    assert outcomes["ours"].mean("mrr10") > 0.195
