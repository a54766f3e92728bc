"""Every setting of the scheduler changes something."""

import threading
import time

import pytest
from settings_cases import matters

from omnimemory.errors import MemoryBudgetError
from omnimemory.memory import Memory
from omnimemory.scheduler.footprint import Request

GIB = 1 << 30


def with_values(settings, **values):
    return settings.with_values({f"schedule.{key}": value for key, value in values.items()})


@matters("schedule.profile")
def test_a_profile_says_how_much_stays_free(settings):
    reserves = {}
    for profile in ("max_use", "balanced", "conservative"):
        with Memory(settings=with_values(settings, profile=profile)) as memory:
            state = memory.status()["scheduler"]
            assert state["profile"] == profile
            reserves[profile] = state["reserve"]
    assert reserves["max_use"] <= reserves["balanced"] <= reserves["conservative"]
    assert reserves["max_use"] < reserves["conservative"]


@matters("schedule.wait")
def test_a_batch_waits_for_memory_as_long_as_it_is_told(settings):
    for wait, outcome in ((0, "refused"), (60, "granted")):
        with Memory(settings=with_values(settings, wait=wait)) as memory:
            held, over = threading.Event(), threading.Event()
            scheduler = memory.scheduler
            size = 2 * scheduler.status()["available"] // 5

            def hold(scheduler=scheduler, size=size, held=held, over=over):
                with scheduler.lease(Request("m", 1, 0, size, measured=9)):
                    held.set()
                    over.wait(60)

            holder = threading.Thread(target=hold)
            holder.start()
            assert held.wait(60)
            if wait:
                releaser = threading.Thread(target=lambda s=scheduler, o=over: _when_waiting(s, o))
                releaser.start()
            try:
                with scheduler.lease(Request("m", 1, 0, 3 * size // 2, measured=9)):
                    found = "granted"
            except MemoryBudgetError:
                found = "refused"
            over.set()
            holder.join(60)
            assert found == outcome


def _when_waiting(scheduler, over):
    deadline = time.monotonic() + 30
    while scheduler.status()["waiting"] == 0 and time.monotonic() < deadline:
        pass
    over.set()


@matters("schedule.folder")
def test_promises_are_kept_in_the_folder(settings, tmp_path):
    with Memory(settings=with_values(settings, folder=tmp_path / "promises")) as memory:
        memory.add("a note")
        assert any((tmp_path / "promises").glob("leases-*"))


@matters("schedule.log_bytes")
def test_so_many_bytes_of_decisions_are_kept(settings, tmp_path):
    for size, kept in (("0", False), ("64KiB", True)):
        folder = tmp_path / f"of{size}"
        with Memory(settings=with_values(settings, folder=folder, log_bytes=size)) as memory:
            for number in range(150):
                memory.embeddings.embed_text(f"text {number}", use_cache=False)
        files = list(folder.glob("decisions*"))
        assert bool(files) == kept
        assert sum(file.stat().st_size for file in files) < 70_000


@matters("schedule.max_model_bytes")
def test_a_model_that_needs_more_is_not_used(settings):
    with (
        Memory(settings=with_values(settings, max_model_bytes="1MiB")) as memory,
        pytest.raises(MemoryBudgetError, match=r"no model may need more than 1\.0 MiB"),
    ):
        memory.embeddings.embed_text("x")


@matters("schedule.allow")
def test_only_allowed_models_are_used(settings):
    with (
        Memory(settings=with_values(settings, allow=["onnx:*"])) as memory,
        pytest.raises(MemoryBudgetError, match=r"schedule\.allow does not name it"),
    ):
        memory.embeddings.embed_text("x")
    with Memory(settings=with_values(settings, allow=["onnx:*", "static:*"])) as memory:
        assert memory.embeddings.embed_text("x").shape == (256,)


@matters("schedule.deny")
def test_denied_models_are_not_used(settings):
    with (
        Memory(settings=with_values(settings, deny=["static:*"])) as memory,
        pytest.raises(MemoryBudgetError, match=r"schedule\.deny names it"),
    ):
        memory.embeddings.embed_text("x")
