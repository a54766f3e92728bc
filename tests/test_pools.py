"""Pools of memory: the real machine, and stand-ins for cards and machines that are not here."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from fake_cards import Cards, NVMLError_LibraryNotFound

from omnimemory.scheduler.pools import Pool, read_pools
from omnimemory.scheduler.probe import Available, Probe, Reading

GIB = 1 << 30
MAIN = Available(8 * GIB, "MemAvailable", 16 * GIB, (Reading("MemAvailable", 8 * GIB, "", 16 * GIB),))


def mlx(limit, active=0, cached=0):
    return SimpleNamespace(
        device_info=lambda: {"device_name": "x"} | ({"max_recommended_working_set_size": limit} if limit else {}),
        get_active_memory=lambda: active,
        get_cache_memory=lambda: cached,
    )


def pools(platform="linux", **libraries):
    return read_pools(MAIN, find=libraries.get, platform=platform)


def test_main_memory_is_always_there_and_says_its_source():
    assert pools() == (Pool("ram", "ram", 16 * GIB, 8 * GIB, "MemAvailable"),)


def test_every_card_is_a_pool_of_its_own_and_the_library_is_closed_again():
    cards = Cards((24 * GIB, 20 * GIB), (8 * GIB, 0))
    assert pools(pynvml=cards)[1:] == (
        Pool("gpu:0", "gpu", 24 * GIB, 20 * GIB, "nvml"),
        Pool("gpu:1", "gpu", 8 * GIB, 0, "nvml"),
    )
    assert cards.opened == 0


def test_without_a_driver_there_is_no_card():
    assert len(pools(pynvml=Cards(broken=NVMLError_LibraryNotFound("no libnvidia-ml.so")))) == 1


LIARS = {
    "more-free-than-there-is": (8 * GIB, 9 * GIB),
    "negative": (8 * GIB, -1),
    "more-than-any-card-has": (1 << 70, 1),
    "lost": RuntimeError("GPU is lost"),
}


@pytest.mark.parametrize("card", LIARS.values(), ids=LIARS)
def test_a_card_that_cannot_be_believed_has_nothing_and_says_why(card):
    _, first, second = pools(pynvml=Cards(card, (8 * GIB, GIB)))
    assert (first.total, first.available) == (0, 0)
    assert first.note.startswith("nvml: ")
    assert second.available == GIB


def test_a_broken_driver_is_a_pool_without_bytes_not_an_error():
    (_, card) = pools(pynvml=Cards(broken=RuntimeError("version mismatch")))
    assert (card.available, card.note) == (0, "nvml: version mismatch")


def test_memory_that_processor_and_gpu_share_is_one_pool_bounded_by_the_working_set():
    (one,) = pools("darwin", **{"mlx.core": mlx(10 * GIB, active=3 * GIB, cached=GIB)})
    assert one == Pool("unified", "unified", 10 * GIB, 6 * GIB, "MLX working set")
    (one,) = pools("darwin", **{"mlx.core": mlx(64 * GIB)})
    assert (one.total, one.available, one.source) == (16 * GIB, 8 * GIB, "MemAvailable")
    assert pools("darwin", **{"mlx.core": mlx(None)})[0].kind == "ram"  # an MLX without Metal
    assert pools("linux", **{"mlx.core": mlx(GIB)})[0].kind == "ram"


@pytest.mark.parametrize("library", [mlx(-5), mlx(GIB, active=-1), SimpleNamespace()], ids=["limit", "held", "empty"])
def test_an_mlx_that_cannot_be_believed_is_flagged_and_main_memory_counts(library):
    (one,) = pools("darwin", **{"mlx.core": library})
    assert (one.total, one.available) == (16 * GIB, 8 * GIB)
    assert "MLX" in one.note


def test_a_sensor_of_main_memory_that_failed_is_told():
    unknown = Available(0, "unknown", 0, (Reading("meminfo", None, "no such file"),))
    (main,) = read_pools(unknown, find={}.get, platform="linux")
    assert (main.total, main.available, main.note) == (0, 0, "meminfo: no such file")


def test_the_real_machine_agrees_with_its_probe():
    main, found = read_pools()[0], Probe()()
    assert main.total == found.total
    assert 0 < main.available <= main.total


def test_the_status_of_a_memory_tells_its_machine(memory):
    machine = json.loads(json.dumps(memory.status()))["machine"]
    assert machine["pools"][0]["total"] > 0
    assert machine["pressure"]["level"] in ("ok", "elevated", "high", "critical")
    assert 0 <= machine["pressure"]["signs"]["left"] <= 1
