from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnimemory.sources.history import align

F, N = False, True


def realistic(count: int, seed: int) -> list[int]:
    """Commands as people type them: a few all the time, loops, and every few lines one never seen before."""
    source = random.Random(seed)
    out: list[int] = []
    while len(out) < count:
        kind = source.random()
        if kind < 0.2:
            out.append(10_000 + len(out) + seed * 1_000_000)
        elif kind < 0.25:
            out += [1, 2, 3] * source.randint(1, 5)
        else:
            out.append(min(int(source.paretovariate(0.8)), 300))
    return out[:count]


def marked(seen: list[int], new: list[bool]) -> list[int]:
    return [item for item, is_new in zip(seen, new, strict=True) if is_new]


LONG = list(range(100, 120))


@pytest.mark.parametrize(
    ("stored", "seen", "expected"),
    [
        pytest.param([], [], [], id="both_empty"),
        pytest.param([], [1, 1, 2], [N, N, N], id="nothing_stored"),
        pytest.param([1, 2], [], [], id="nothing_seen"),
        pytest.param([1, 2, 1], [1, 2, 1], [F, F, F], id="unchanged"),
        pytest.param([1, 2, 3], [1, 2, 3, 1], [F, F, F, N], id="appended_behind_all_that_is_stored"),
        pytest.param([1, 2, 3], [2, 3, 4], [F, F, N], id="short_trimmed_and_appended"),
        pytest.param([1, 2, 3], [4, 5], [N, N], id="all_other_commands"),
        pytest.param([*LONG, 1], [*LONG[5:], 1, 1], [F] * 16 + [N], id="trimmed_then_the_last_command_again"),
        pytest.param(LONG, [*LONG[:10], *LONG[11:]], [F] * 19, id="one_deleted"),
        pytest.param(LONG, [*LONG[:10], 7, *LONG[11:]], [F] * 10 + [N] + [F] * 9, id="one_edited"),
        pytest.param(LONG, [*LONG[:10], 7, *LONG[10:]], [F] * 10 + [N] + [F] * 10, id="one_inserted"),
        pytest.param(LONG, [*LONG[:10], 119, *LONG[11:]], [F] * 19 + [N], id="edited_to_a_known_one_counts_once"),
        pytest.param(
            LONG, [*LONG[3:10], *LONG[11:], 100], [F] * 16 + [N], id="trimmed_deleted_and_a_trimmed_one_again"
        ),
        pytest.param(LONG, [*LONG[:15], 7, 8], [F] * 15 + [N, N], id="end_overwritten_by_another_session"),
        pytest.param(LONG, LONG[::-1], [F] * 20, id="reversed_is_not_new"),
        pytest.param(LONG, sorted(LONG, key=str), [F] * 20, id="sorted_is_not_new"),
        pytest.param(
            LONG, [*LONG[:5], *LONG[6:], LONG[5]], [F] * 19 + [N], id="erasedups_moved_a_command_that_ran_again"
        ),
        pytest.param([1] * 30, [1] * 30 + [2], [F] * 30 + [N], id="one_command_all_the_time"),
        pytest.param([1] * 30, [*[1] * 29, 2], [F] * 29 + [N], id="one_command_all_the_time_trimmed"),
        pytest.param([1, 2] * 20, [1, 2] * 10 + [3] + [2] + [1, 2] * 9, [F] * 20 + [N] + [F] * 19, id="loop_edited"),
        pytest.param(
            [*LONG, *[1, 2, 3, 4] * 5],
            [*LONG[5:], *[1, 2, 3, 4] * 8],
            [F] * 35 + [N] * 12,
            id="a_loop_that_went_on_after_trimming",
        ),
    ],
)
def test_these_are_new(stored, seen, expected):
    assert align(stored, seen) == expected


# Few different commands: the worst case, in which anything looks like anything.
FEW = st.lists(st.integers(0, 3), max_size=40)
SOME = st.lists(st.integers(0, 12), max_size=60)


@settings(deadline=None, max_examples=500)
@given(data=st.data(), stored=FEW | SOME, appended=FEW | SOME)
def test_trimming_deleting_and_appending_never_make_an_old_line_new(data, stored, appended):
    kept = [item for item in stored if data.draw(st.booleans())]
    new = align(stored, kept + appended)
    assert not any(new[: len(kept)])


@settings(deadline=None)
@given(stored=FEW | SOME, trim=st.integers(0, 60), appended=st.lists(st.integers(100, 110), max_size=30))
def test_after_trimming_all_appended_commands_that_were_not_known_are_new(stored, trim, appended):
    seen = stored[trim:] + appended
    assert marked(seen, align(stored, seen)) == appended


@settings(deadline=None)
@given(stored=FEW | SOME, at=st.integers(0, 60))
def test_a_line_edited_to_something_never_seen_is_the_only_new_one_in_a_varied_history(stored, at):
    varied = [item * 1_000 + index for index, item in enumerate(stored)]
    edited = [*varied[:at], -1, *varied[at + 1 :]]
    assert marked(edited, align(varied, edited)) == [-1]


@settings(deadline=None)
@given(st.permutations(range(30)), st.lists(st.integers(0, 29), max_size=40))
def test_every_command_never_stored_is_new_whatever_else_happened(stored, seen):
    fresh = [item + 1_000 if index % 3 == 0 else item for index, item in enumerate(seen)]
    new = align(stored, fresh)
    assert all(is_new for item, is_new in zip(fresh, new, strict=True) if item >= 1_000)


@pytest.mark.parametrize("seed", range(20))
def test_in_a_realistic_history_exactly_what_was_appended_is_new(seed):
    stored = realistic(3_000, seed)
    appended = random.Random(seed).choices(stored, k=400)
    seen = stored[1_500:] + appended
    assert align(stored, seen) == [F] * 1_500 + [N] * 400


@pytest.mark.parametrize("seed", range(20))
def test_in_a_realistic_history_with_deleted_lines_exactly_what_was_appended_is_new(seed):
    stored = realistic(3_000, seed)
    source = random.Random(seed)
    kept = [item for item in stored[500:] if source.random() > 0.01]
    kept[-10:] = stored[-10:]
    appended = source.choices(stored, k=200)
    assert align(stored, kept + appended) == [F] * len(kept) + [N] * 200


@pytest.mark.parametrize("seed", range(20))
def test_edits_of_a_realistic_history_double_at_most_a_line_an_edit(seed):
    stored = realistic(3_000, seed)
    source = random.Random(seed)
    edited = stored[:]
    for at in source.sample(range(2_900), 30):
        edited[at] = source.choice(stored)
    appended = source.choices(stored, k=100)
    new = align(stored, edited + appended)
    assert all(new[3_000:])
    assert sum(new[:3_000]) <= 30


@pytest.mark.parametrize("seed", range(5))
def test_a_rotated_file_with_other_commands_is_new(seed):
    stored = realistic(1_000, seed)
    seen = realistic(500, seed + 100)
    new = align(stored, seen)
    known = set(stored)
    assert all(is_new for item, is_new in zip(seen, new, strict=True) if item not in known)


def test_new_ones_are_never_more_than_the_surplus_when_nothing_runs_in_step():
    stored, seen = realistic(1_000, 1), [*sorted(realistic(1000, 1)), 1, 1]
    new = Counter(marked(seen, align(stored, seen)))
    assert new == Counter(seen) - Counter(stored)


@pytest.mark.parametrize(
    ("stored", "seen"),
    [
        pytest.param([1] * 100_000, [2] + [1] * 100_000, id="one_command"),
        pytest.param([1, 2] * 50_000, [1, 2] * 25_000 + [3] + [2, 1] * 25_000, id="two_commands"),
        pytest.param([i % 9 for i in range(100_000)], [0, *(i % 9 for i in range(99_995))], id="nine_commands"),
        pytest.param(realistic(100_000, 1), realistic(100_000, 2), id="nothing_in_common_but_habits"),
        pytest.param(realistic(100_000, 1), sorted(realistic(100_000, 1)), id="sorted"),
    ],
)
@pytest.mark.timeout(30)
def test_long_histories_do_not_take_quadratic_time(stored, seen):
    # In quadratic time each of these takes hours: the limit only tells the two apart.
    assert len(align(stored, seen)) == len(seen)
