"""Signs of pressure from fake trees, levels with hysteresis, and the real machine."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.scheduler.pressure import LEVELS, Counters, PressureGauge, PressureProbe, Signs, between, level

MIB = 1 << 20
MOUNTS = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


def tree(root, files):
    for name, content in {"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": MOUNTS, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return PressureProbe(root, told=lambda: None)


def stall(some=0.0, full=0.0):
    return (
        f"some avg10={some:.2f} avg60=0.00 avg300=0.00 total=1\nfull avg10={full:.2f} avg60=0.00 avg300=0.00 total=1\n"
    )


def events(high=0, most=0, killed=0):
    return f"low 0\nhigh {high}\nmax {most}\noom 0\noom_kill {killed}\noom_group_kill 0\n"


def test_counters_come_from_the_machine_and_from_every_group_above(tmp_path):
    found = tree(
        tmp_path,
        {
            "proc/vmstat": "pswpin 7\npswpout 300\n",
            "proc/pressure/memory": stall(3.5, 0.5),
            "sys/fs/cgroup/a/b/memory.pressure": stall(12.25, 0.25),
            "sys/fs/cgroup/a/b/memory.events": events(high=2, most=1),
            "sys/fs/cgroup/a/memory.events": events(high=40, killed=3),
        },
    )()
    assert (found.some, found.full) == (12.25, 0.5)
    assert (found.throttled, found.limit_hits, found.killed) == (42, 1, 3)
    assert found.swapped_out == 300 * 4096
    assert found.notes == ()


def test_a_machine_without_any_source_gives_no_figure_and_no_note(tmp_path):
    found = PressureProbe(tmp_path, told=lambda: None)()
    assert found == Counters(time=found.time)


BROKEN = {
    "swap-is-a-word": ({"proc/vmstat": "pswpout many\n"}, "vmstat"),
    "swap-is-absurd": ({"proc/vmstat": f"pswpout {1 << 70}\n"}, "vmstat"),
    "stall-above-all-time": ({"proc/pressure/memory": stall(250)}, "absurd"),
    "events-are-negative": ({"sys/fs/cgroup/a/memory.events": "high -1\n"}, "memory.events"),
    "pressure-is-a-folder": ({"proc/pressure/memory/x": ""}, "memory"),
}


@pytest.mark.parametrize(("files", "note"), BROKEN.values(), ids=BROKEN)
def test_a_broken_source_is_noted_and_left_out(tmp_path, files, note):
    found = tree(tmp_path, files)()
    assert len(found.notes) == 1
    assert note in found.notes[0]
    assert (found.swapped_out, found.some, found.throttled) == (None, None, None)


def test_what_happened_between_two_readings_is_their_difference():
    earlier = Counters(10.0, swapped_out=5 * MIB, throttled=3, limit_hits=1, killed=0)
    later = Counters(12.0, swapped_out=9 * MIB, some=4.0, throttled=8, limit_hits=1, killed=1, told=2)
    assert between(earlier, later, 0.5) == Signs(0.5, 2 * MIB, 4.0, 0.0, 5, 0, 1, 2)


def test_a_counter_that_went_back_or_is_gone_tells_nothing_and_a_clock_that_stood_still_is_no_error():
    earlier = Counters(10.0, swapped_out=5 * MIB, throttled=8, killed=2)
    assert between(earlier, Counters(10.0, swapped_out=0, throttled=None, killed=1), 1.0) == Signs()


@pytest.mark.parametrize("left", [-0.1, 1.1, float("nan"), float("inf")])
def test_an_absurd_share_of_memory_is_no_memory(left):
    signs = between(Counters(0.0), Counters(1.0), left)
    assert signs.left == 0
    assert level("ok", signs) == "critical"


TABLE = {
    "nothing": (Signs(), "ok"),
    "little-is-left": (Signs(left=0.11), "elevated"),
    "less-is-left": (Signs(left=0.05), "high"),
    "hardly-anything-is-left": (Signs(left=0.01), "critical"),
    "some-wait": (Signs(some=10), "elevated"),
    "some-wait-long": (Signs(some=30), "high"),
    "all-wait": (Signs(full=5), "high"),
    "all-wait-long": (Signs(full=20), "critical"),
    "swap-trickles": (Signs(swap_rate=2 * MIB), "elevated"),
    "swap-pours": (Signs(swap_rate=100 * MIB), "critical"),
    "a-group-is-throttled": (Signs(throttled=1), "elevated"),
    "a-limit-was-hit": (Signs(limit_hits=1), "high"),
    "a-process-was-killed": (Signs(killed=1), "critical"),
    "macos-warns": (Signs(told=2), "high"),
    "macos-is-desperate": (Signs(told=4), "critical"),
    "macos-is-content": (Signs(told=1), "ok"),
    "the-worst-sign-counts": (Signs(left=0.1, some=70, swap_rate=1), "critical"),
}


@pytest.mark.parametrize(("signs", "expected"), TABLE.values(), ids=TABLE)
def test_each_sign_raises_the_level_by_itself(signs, expected):
    assert level("ok", signs) == expected


SIGNS = st.builds(
    Signs,
    left=st.floats(0, 1),
    swap_rate=st.floats(0, 1e9),
    some=st.floats(0, 100),
    full=st.floats(0, 100),
    throttled=st.integers(0, 2),
    limit_hits=st.integers(0, 2),
    killed=st.integers(0, 2),
    told=st.sampled_from([0, 1, 2, 4]),
)


@given(SIGNS, st.sampled_from(LEVELS))
def test_the_same_signs_again_change_nothing(signs, before):
    once = level(before, signs)
    assert level(once, signs) == once
    assert LEVELS.index(once) >= LEVELS.index(level("ok", signs))


@given(SIGNS, st.floats(0, 1), st.sampled_from(LEVELS))
def test_less_memory_never_lowers_the_level(signs, left, before):
    fewer = Signs(min(left, signs.left), *(getattr(signs, name) for name in Signs.__slots__[1:]))
    assert LEVELS.index(level(before, fewer)) >= LEVELS.index(level(before, signs))


def test_a_sign_that_flutters_about_its_threshold_does_not_make_the_level_flutter():
    seen, now = [], "ok"
    for some in (10.5, 9.5, 10.5, 9.0, 8.0, 7.5):
        now = level(now, Signs(some=some))
        seen.append(now)
    assert seen == ["elevated"] * 6
    assert level(now, Signs(some=6.9)) == "ok"
    assert level("high", Signs(left=0.06)) == "high"
    assert level("high", Signs(left=0.2)) == "ok"


def test_a_gauge_remembers_its_last_reading_and_level():
    readings = [Counters(0.0, throttled=90), Counters(1.0, throttled=91), Counters(2.0, throttled=91)]
    gauge = PressureGauge(lambda: readings.pop(0))
    assert [gauge(0.5).level for _ in range(3)] == ["ok", "elevated", "ok"]


def test_the_real_machine_answers():
    probe = PressureProbe()
    earlier = probe()
    later = probe()
    assert earlier.time <= later.time <= time.monotonic()
    assert level("ok", between(earlier, later, 0.9)) in LEVELS
