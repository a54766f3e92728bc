"""What predictions are put together from: counts of each context, folders, and how often a command is a new one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.procedure.folders import Folders
from omnimemory.procedure.followers import Followers
from omnimemory.procedure.levels import Level, add_counts, parts_of
from omnimemory.procedure.predictor import NextCommand
from omnimemory.procedure.steps import Step
from tests.test_predictor import commands, learned

WEIGHTS = st.dictionaries(st.integers(0, 9), st.floats(0.01, 100), min_size=1, max_size=10)


def followers(weights: dict[int, float]) -> Followers:
    made = Followers()
    for command, weight in weights.items():
        made.add(command, weight)
    return made


@given(st.lists(st.tuples(WEIGHTS, st.floats(0.5, 20)), max_size=4), st.floats(0.01, 10), st.floats(0.5, 20))
def test_the_parts_of_all_levels_give_what_witten_and_bells_rule_gives_from_level_to_level(known, scale, types):
    levels = [Level(str(number), followers(weights), caution) for number, (weights, caution) in enumerate(known)]
    expected = dict.fromkeys(range(10), 0.05)
    for weights, caution in reversed(known):
        total, new = scale * sum(weights.values()), types * caution * len(weights)
        for command, lower in expected.items():
            expected[command] = (scale * weights.get(command, 0.0) + new * lower) / (total + new)
    parts, left = parts_of(levels, scale, types)
    found = dict.fromkeys(range(10), 0.05 * left)
    add_counts(found, levels, parts)
    assert found == pytest.approx(expected)


RUNS = st.lists(st.tuples(st.sampled_from(["~", "~/api", "~/web"]), st.integers(0, 5)), max_size=20)
SHARES = st.dictionaries(st.integers(0, 9), st.floats(1e-6, 0.1), min_size=1)


@given(RUNS, SHARES, st.sampled_from(["~", "~/api", "~/never"]))
def test_folders_move_probability_between_commands_and_neither_make_nor_lose_any(runs, probabilities, folder):
    folders = Folders()
    for ran_in, command in runs:
        folders.add(ran_in, command, 2.0)
    found = dict(probabilities)
    folders.weigh(found, folder, 0.5)
    assert sum(found.values()) == pytest.approx(sum(probabilities.values()))
    assert found.keys() == probabilities.keys()
    assert all(share > 0 for share in found.values())


def test_what_runs_in_one_other_folder_only_gives_way_to_what_runs_in_all():
    deploy = [[Step("git pull", "~/api"), Step("make deploy", "~/api")]] * 5
    look = [[Step("git pull", folder), Step("ls", folder)] for folder in ("~/api", "~/web", "~/doc", "~")]
    model = learned(*deploy, *look)
    assert commands(model, "git pull", k=1) == ["make deploy"]
    assert commands(model, "git pull", cwd="~/api", k=1) == ["make deploy"]
    assert commands(model, "git pull", cwd="~/web", k=1) == ["ls"]
    assert commands(model, "git pull", cwd="~/never", k=1) == ["ls"]


def test_a_command_of_which_nobody_knows_where_it_ran_is_judged_like_others_in_a_folder():
    model = learned(*[["git pull", "make"]] * 6, *[[Step("git pull", "~/web"), Step("npm test", "~/web")]] * 2)
    assert commands(model, "git pull", cwd="~/api", k=1) == ["make"]


def said(model: NextCommand) -> float:
    return sum(one.probability for one in model.predict([Step("ls")], None, 1000))


def test_the_more_commands_are_new_the_less_is_promised_to_known_ones():
    mixed = [["ls", f"vim {number}.txt"] for number in range(40)]
    settled = [["ls", f"vim {number % 4}.txt"] for number in range(40)]
    assert said(learned(*mixed)) < 0.75
    assert said(learned(*settled)) > 0.9


def test_histories_that_keep_each_command_once_do_not_tell_how_often_one_is_new():
    model, other = (learned(*[["ls", "pwd"]] * 10) for _ in range(2))
    for number in range(50):
        other.learn(None, Step(f"vim {number}.txt"))
    assert said(other) == pytest.approx(said(model), abs=0.05)
