"""What comes next: counts of what followed, with a probability and a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.procedure.outcomes import Outcomes
from omnimemory.procedure.predictor import NextCommand
from omnimemory.procedure.steps import Step, first_word, home_relative

COMMANDS = ["ls", "cd api", "git add .", "git commit", "git push", "make test"]


def learned(*sequences, **options):
    model = NextCommand(**options)
    for sequence in sequences:
        steps = [step if isinstance(step, Step) else Step(step) for step in sequence]
        for place, step in enumerate(steps):
            model.learn(steps[max(0, place - 4) : place], step)
    return model


def commands(model, *context, cwd=None, k=5, ok=None):
    steps = [Step(command) for command in context]
    steps[-1:] = [Step(step.command, ok=ok) for step in steps[-1:]]
    return [prediction.command for prediction in model.predict(steps, cwd, k)]


SESSIONS = st.lists(
    st.lists(
        st.builds(
            Step, st.sampled_from(COMMANDS), st.sampled_from([None, "~", "~/api"]), st.sampled_from([None, True, False])
        ),
        max_size=12,
    ),
    max_size=6,
)


@given(SESSIONS, st.lists(st.builds(Step, st.sampled_from([*COMMANDS, "never seen"])), max_size=3), st.integers(0, 9))
def test_probabilities_are_positive_falling_and_sum_to_at_most_one(sessions, context, k):
    model = learned(*sessions)
    found = model.predict(context, "~", k)
    assert len(found) <= k
    assert len({one.command for one in found}) == len(found)
    assert all(0 < one.probability <= 1 for one in found)
    assert sum(one.probability for one in found) <= 1 + 1e-9
    assert [one.probability for one in found] == sorted((one.probability for one in found), reverse=True)
    assert all(one.why for one in found)


@given(SESSIONS, SESSIONS)
def test_going_on_gives_what_learning_all_at_once_gives(first, second):
    model = learned(*first)
    model.predict([Step("ls")], "~", 3)  # asking changes nothing
    for sequence in second:
        for place, step in enumerate(sequence):
            model.learn(sequence[max(0, place - 4) : place], step)
    whole = learned(*first, *second)
    for context in ([], [Step("ls")], [Step("git add ."), Step("git commit")]):
        assert model.predict(context, "~", 9) == whole.predict(context, "~", 9)


def test_nothing_learned_predicts_nothing():
    assert NextCommand().predict([Step("ls")], None, 5) == []


def test_what_always_follows_comes_first_and_says_why():
    model = learned(*[["git add .", "git commit", "git push"]] * 4, ["ls"] * 3)
    (best,) = model.predict([Step("git add .")], None, 1)
    assert (best.command, best.why) == ("git commit", "seen 4 times after `git add .`")
    assert best.probability > 0.4


def test_the_two_commands_before_decide_where_one_does_not():
    model = learned(*[["cd api", "ls", "make test"], ["cd web", "ls", "npm test"]] * 5)
    assert commands(model, "cd api", "ls", k=1) == ["make test"]
    assert commands(model, "cd web", "ls", k=1) == ["npm test"]


def test_a_foreign_command_in_between_does_not_end_a_routine():
    model = learned(*[["git add .", "git commit", "git push"]] * 5, *[["ls", "pwd"]] * 2)
    assert "git push" in commands(model, "git add .", "git commit", "ls", k=3)


@pytest.mark.parametrize("foreign", ["ls", "pwd", "git status"])
@pytest.mark.parametrize("longest", [2, 3, 4])
def test_a_foreign_command_that_is_followed_by_anything_does_not_end_a_routine_either(foreign, longest):
    busy = [[foreign, f"vim {number}.txt"] for number in range(20)]
    model = learned(*[["cd api", "git add .", "git commit", "git push"]] * 5, *busy, longest=longest)
    place = commands(model, "git add .", k=9).index("git commit")
    assert place == 0
    (why,) = (
        one.why for one in model.predict([Step("git add ."), Step(foreign)], None, 3) if one.command == "git commit"
    )
    assert why in ("seen 5 times after `git add .`", "often follows `git`")


@pytest.mark.parametrize(("longest", "right"), [(1, False), (2, False), (3, True), (4, True)])
def test_a_longer_context_tells_apart_what_a_shorter_one_mixes(longest, right):
    model = learned(*[["a", "x", "y", "one"], ["b", "x", "y", "two"]] * 5, longest=longest)
    found = [commands(model, start, "x", "y", k=1) for start in "ab"]
    assert (found == [["one"], ["two"]]) is right


def test_what_mostly_failed_stands_below_what_worked_as_often():
    fails = [Step("make", ok=ok) for ok in (True, False, False, False)]
    works = [Step("ninja", ok=True)] * 4
    model = learned(*[["cd api", step] for pair in zip(fails, works, strict=True) for step in pair])
    first, second = model.predict([Step("cd api")], None, 2)
    assert (first.command, second.command) == ("ninja", "make")
    assert second.probability < 0.8 * first.probability


def test_a_command_never_seen_falls_back_to_its_program():
    model = learned(*[["git commit -m one", "git push"], ["git commit -m two", "git push"], ["ls", "pwd"]])
    assert commands(model, "git commit -m three", k=1) == ["git push"]
    assert model.predict([Step("git commit -m three")], None, 1)[0].why == "often follows `git`"


def test_the_folder_decides_between_equals():
    api, web = Step("make test", "~/api"), Step("npm test", "~/web")
    model = learned(*[[Step("git pull", "~/api"), api], [Step("git pull", "~/web"), web]] * 3)
    for folder, here, elsewhere in (("~/api", "make test", "npm test"), ("~/web", "npm test", "make test")):
        found = commands(model, "x", cwd=folder)
        assert found.index(here) < found.index(elsewhere)


def test_new_habits_replace_old_ones():
    old, new = ["make", "make install"], ["make", "make check"]
    model = learned(*[old] * 20, *[new] * 15, half_life=10.0)
    assert commands(model, "make", k=1) == ["make check"]


def test_what_only_ever_failed_is_not_suggested():
    model = learned(*[["cd api", Step("gti status", ok=False), Step("git status", ok=True)]] * 5)
    assert "gti status" not in commands(model, "cd api")
    assert "git status" in commands(model, "cd api")


def test_after_a_failure_its_repair_comes_first():
    test, failed = Step("make test", ok=True), Step("make test", ok=False)
    model = learned(*[[test, "git push"]] * 6, *[[failed, "make clean"]] * 4)
    assert commands(model, "make test", k=1, ok=False) == ["make clean"]
    assert commands(model, "make test", k=1, ok=True) == ["git push"]


def test_after_a_failure_in_the_middle_of_a_routine_its_repair_comes_first_as_well():
    routine = ["cd api", "git pull", Step("make test", ok=True), "git push"]
    broken = ["cd api", "git pull", Step("make test", ok=False), "make clean"]
    model = learned(*[routine] * 8, *[broken] * 2)
    assert commands(model, "cd api", "git pull", "make test", k=1, ok=False) == ["make clean"]
    assert commands(model, "cd api", "git pull", "make test", k=1, ok=True) == ["git push"]
    assert commands(model, "cd api", "git pull", "make test", k=1) == ["git push"]


def test_the_reason_tells_the_folder_where_it_mostly_ran():
    pair = [Step("git add .", "~/api"), Step("git commit", "~/api")]
    model = learned(*[pair] * 3, [Step("git add ."), Step("git commit", "~/web")])
    (best,) = model.predict([Step("git add .")], None, 1)
    assert best.why == "seen 4 times after `git add .`, mostly in ~/api"


@pytest.mark.parametrize(
    ("worked", "failed", "expected"),
    [(0, 0, 1.0), (50, 0, 1.0), (0, 1, 0.85), (5, 5, 0.71), (1, 30, 0.2)],
    ids=["unknown", "always", "once-failed", "half", "hardly-ever"],
)
def test_the_factor_of_success_is_cautious(worked, failed, expected):
    outcomes = Outcomes()
    for ok in [True] * worked + [False] * failed:
        outcomes.add(ok)
    assert outcomes.factor() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    ("command", "program"),
    [("git push", "git"), ("A=1 B=2 make x", "make"), ("A=1", "A=1"), ("", ""), ("  ls ", "ls")],
    ids=["plain", "assignments", "only-an-assignment", "empty", "spaces"],
)
def test_the_program_is_the_first_word_that_is_no_assignment(command, program):
    assert first_word(command) == program


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/home/ann/api", "~/api"),
        ("/Users/ann", "~"),
        ("/root/", "~"),
        ("/rootless", "/rootless"),
        ("/", "/"),
        (None, None),
    ],
    ids=["linux", "mac", "root", "not-root", "top", "unknown"],
)
def test_folders_are_told_from_home(folder, expected):
    assert home_relative(folder) == expected
