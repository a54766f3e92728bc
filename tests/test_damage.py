"""Whatever is done to a file of the store or of the cache: no wrong answer, the doctor names it, repair mends it."""

import collections
import sys

import pytest
from damage_cases import CATALOG, LOG, Base, Case, Damage, all_cases

SAMPLE = [
    *[Case("closed", CATALOG, Damage(*damage)) for damage in (("delete",), ("half",), ("bit", 15), ("zeros", 2))],
    *[Case("killed", CATALOG, Damage(*damage)) for damage in (("bit", 1), ("noise", 1))],
    *[Case("killed", LOG, Damage(*damage)) for damage in (("delete",), ("tail",), ("bit", 2))],
    *[Case("closed", f"{CATALOG}.seal", Damage(*damage)) for damage in (("delete",), ("bit", 0))],
    *[Case("closed", "cache/cache.db", Damage(*damage)) for damage in (("delete",), ("half",), ("bits", 1))],
]
IN_INDEX = [
    Case("closed", "store/index/*/*/header.bin", Damage("half")),
    Case("killed", "store/index/*/*/data_level0.bin", Damage("bits", 0)),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return Base(tmp_path_factory.mktemp("damage"), index=False)


@pytest.mark.parametrize("case", SAMPLE, ids=str)
def test_damage_gives_no_wrong_answer_is_named_and_mended(base, case):
    assert base.outcome(case).complaints() == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Base(tmp_path_factory.mktemp("damage"))


@pytest.mark.slow
@pytest.mark.parametrize("case", IN_INDEX, ids=str)
def test_damage_of_the_index_never_reaches_an_answer(whole, case):
    assert whole.outcome(case).complaints() == []


@pytest.mark.soak
@pytest.mark.timeout(7000)
def test_more_than_three_hundred_damages_end_well(whole, capsys):
    outcomes, bad = [], {}
    for case in all_cases():
        try:
            outcomes.append(whole.outcome(case))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are tried all the same
            bad[str(case)] = repr(error)
        else:
            bad |= {str(case): outcomes[-1].complaints()} if outcomes[-1].complaints() else {}
    flips = [one for one in outcomes if one.case.damage.how == "bit"]
    mended = sum(one.mended for one in flips)
    tally = collections.Counter(
        f"asked: {one.asked}, {'named' if one.named else 'nothing to name'}, after the repair: {one.after}"
        for one in outcomes
    )
    with capsys.disabled():
        lines = [f"{count:4} {what}" for what, count in tally.most_common()]
        lines.append(f"{mended} of {len(flips)} single flipped bits mended without a backup")
        sys.stdout.write("\n".join(["", f"{len(outcomes)} damages", *lines, ""]))
    assert len(outcomes) >= 300
    assert bad == {}
    assert mended >= 0.95 * len(flips)
