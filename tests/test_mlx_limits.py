"""MLX keeps to what the scheduler granted, and what Metal reports goes to what is learned."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from omnimemory.embedders.mlx.embedder import MlxEmbedder
from omnimemory.embedding_service import EmbeddingService
from omnimemory.scheduler import own_memory
from omnimemory.scheduler.own_memory import PeakSampler, held
from omnimemory.scheduler.scheduler import Scheduler
from tools.golden_vectors import TINY_TEXTS
from tools.tiny_encoders import write_tiny_encoder
from tools.tiny_gemma import write_tiny_gemma

mx = pytest.importorskip("mlx.core", reason="needs MLX: pip install 'omnimemory[mlx]'")

MIB = 1 << 20


class Watched(MlxEmbedder):
    """Writes down what it was granted, and the limit that MLX had while each batch was computed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.granted: list[int] = []
        self.limits: list[int] = []

    def limited(self, granted):
        self.granted.append(granted)
        return super().limited(granted)

    def _read(self):
        loaded = super()._read()
        limits = self.limits

        class Watching(type(loaded.model)):
            __slots__ = ()

            def __call__(self, batch):
                limits.append(mx.get_memory_limit() - mx.get_active_memory())
                return super().__call__(batch)

        model = loaded.model
        watching = Watching(model.mx, model.encoder, model.pooling, model.heads)
        object.__setattr__(loaded, "model", watching)
        return loaded


@pytest.fixture
def made(tmp_path) -> Watched:
    return Watched(write_tiny_encoder(tmp_path))


def test_a_batch_computes_within_what_the_scheduler_granted(made):
    usual = mx.get_memory_limit()
    scheduler = Scheduler()
    service = EmbeddingService(made, cache=None, scheduler=scheduler)
    service.embed_batch(TINY_TEXTS)
    service.embed_batch(TINY_TEXTS, batch_size=1)
    assert len(made.granted) == 1 + len(TINY_TEXTS)
    assert made.limits == made.granted  # each was one batch
    assert len(set(made.granted)) > 2  # loading counts, and texts of other lengths need other amounts
    assert mx.get_memory_limit() == usual


def test_without_a_scheduler_it_is_the_footprint_and_each_thread_has_its_own(made):
    made.embed(TINY_TEXTS, "document")
    need = made.footprint()
    assert made.limits == [need.at_once * need.per_token]
    with made.limited(12 * MIB):
        other = threading.Thread(target=made.embed, args=(TINY_TEXTS, "document"))
        other.start()
        other.join()
        with made.limited(11 * MIB):
            made.embed(TINY_TEXTS, "document")
        made.embed(TINY_TEXTS, "document")
    assert made.limits[1:] == [need.at_once * need.per_token, 11 * MIB, 12 * MIB]


def test_nothing_is_kept_after_a_call(made):
    made.embed([*TINY_TEXTS, "undo the last commit " * 60], "document")
    assert mx.get_cache_memory() == 0
    held_by_model = mx.get_active_memory()
    made.close()
    assert mx.get_active_memory() < held_by_model


def test_nothing_is_kept_after_a_batch_that_failed(made, monkeypatch):
    made.embed(TINY_TEXTS, "document")
    model = type(made._loaded.model)
    compute = model.__call__

    def fail(self, batch):
        compute(self, batch)
        assert mx.get_cache_memory() > 0
        raise RuntimeError("a batch failed")

    monkeypatch.setattr(model, "__call__", fail)
    with pytest.raises(RuntimeError, match="a batch failed"):
        made.embed(TINY_TEXTS, "document")
    assert mx.get_cache_memory() == 0
    monkeypatch.undo()
    assert made.embed(TINY_TEXTS, "document").shape == (len(TINY_TEXTS), 64)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["F32", "BF16"])
def test_the_weights_take_what_was_said_before_they_are_loaded(tmp_path, kind, precision):
    made = MlxEmbedder(write_tiny_gemma(tmp_path, kind=kind), precision=precision)
    gc.collect()  # what an earlier test left behind must not go meanwhile
    said, before = made._model_folder.held(precision), mx.get_active_memory()
    made.embed(["git"], "document")
    assert mx.get_active_memory() - before == pytest.approx(said, rel=0.1)


def test_what_metal_reports_is_part_of_what_is_held_and_of_the_peak(monkeypatch):
    reported = SimpleNamespace(active=100 * MIB, cached=20 * MIB, peak=500 * MIB)
    stand_in = SimpleNamespace(
        get_active_memory=lambda: reported.active,
        get_cache_memory=lambda: reported.cached,
        get_peak_memory=lambda: reported.peak,
    )
    before = held().private
    monkeypatch.setitem(sys.modules, "mlx.core", stand_in)
    monkeypatch.setattr(own_memory, "_PLATFORM", "darwin")
    assert abs(held().private - before - 120 * MIB) < 2 * MIB
    with PeakSampler() as quiet:
        pass
    assert quiet.peak - quiet.before < 2 * MIB  # an older peak is nobody's now
    with PeakSampler() as sampler:
        reported.peak = 900 * MIB  # came and went between two looks
    assert abs(sampler.peak - sampler.before - (900 - 120) * MIB) < 2 * MIB
