"""What ``status --json`` counts of answers and texts: each thing is made to happen, and read by another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from machine_agent import HashEmbedder
from store_cases import run, start

from omnimemory.answers import Answers
from omnimemory.embedders.lengths import LongTexts
from omnimemory.embedders.onnx import OnnxEmbedder
from omnimemory.errors import EmbedderError
from omnimemory.memory import Memory
from tools.tiny_encoders import write_tiny_encoder


def told(settings):
    """Return what ``omnimemory status --json`` says in a process of its own."""
    places = {"OMNIMEMORY_STORE": settings.store.path, "OMNIMEMORY_CACHE_PATH": settings.cache.path}
    done = subprocess.run(
        [sys.executable, "-m", "omnimemory", "status", "--json"],
        env={**os.environ, **{name: str(path) for name, path in places.items()}},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return json.loads(done.stdout)


class Sick(HashEmbedder):
    """A model that answers no questions."""

    def embed(self, texts, role):
        if role == "query":
            raise EmbedderError("the model is away")
        return super().embed(texts, role)


class Short(HashEmbedder):
    """A model that reads four tokens of a text, and drops the rest."""

    max_tokens = 4


def test_answers_are_counted_with_their_times_for_every_process(settings):
    with Memory(settings=settings) as memory:
        memory.add(["one note", "another note"])
        for _ in range(20):
            memory.search("note")
        mine = memory.status()["answers"]
    found = told(settings)["answers"]
    assert found == mine
    assert (found["count"], found["degraded"], found["fallbacks"]) == (20, 0, 0)
    assert 0 < found["p50"] <= found["p95"] <= found["p99"]
    other = settings.with_values({"store.path": settings.store.path / "other"})
    with Memory(settings=other) as memory:
        memory.search("note")
        assert memory.status()["answers"]["count"] == 1
    assert told(settings)["answers"]["count"] == 20


def test_a_memory_that_is_not_there_yet_has_the_same_figures_and_is_not_made(settings):
    found = told(settings)
    assert not settings.store.path.exists()
    with Memory(settings=settings) as memory:
        assert memory.status().keys() == found.keys()
    assert (found["answers"]["count"], found["decisions"]["requests"]) == (0, 0)


def test_an_answer_by_keywords_alone_is_counted_as_degraded(settings):
    with Memory(settings=settings) as memory:
        memory.add(["one note"])
    denied = settings.with_values({"schedule.deny": ["static:*"]})
    with Memory(settings=denied) as memory:
        assert memory.search("a note that was never asked for").degraded
        assert not memory.search("note", mode="keyword").degraded
    found = told(settings)
    assert (found["answers"]["count"], found["answers"]["degraded"]) == (2, 1)
    assert found["decisions"]["actions"]["refuse"] == 1


def test_a_model_that_fails_is_counted_as_degraded_as_well(settings):
    with Memory(settings=settings, embedder=Sick()) as memory:
        memory.add(["one note"])
        assert memory.search("note").degraded
        found = memory.status()
    assert found["answers"]["degraded"] == 1
    assert found["decisions"]["outcomes"]["failed"] == 1


def test_an_answer_without_the_index_that_should_have_given_it_is_counted_as_a_fallback(indexed):
    large = indexed.with_values({"search.exact_rows": 0})
    for settings, fallbacks in ((large, 1), (indexed, 1), (large.with_values({"index.enabled": False}), 1)):
        with Memory(settings=settings) as memory:
            memory.add([f"note {number}" for number in range(3)])
            found = memory.search("note", kind="documents")
            assert (found.fallback is not None) == (settings is large)
            assert len(found) == 3
        assert told(settings)["answers"]["fallbacks"] == fallbacks


def test_texts_that_a_model_cuts_off_are_counted(settings):
    with Memory(settings=settings) as memory:
        memory.add(["one note"])
    short = settings.with_values({"store.path": settings.store.path / "short"})
    with Memory(settings=short, embedder=Short()) as memory:
        memory.embeddings.embed_batch(["four", "a text of very many more tokens than four", "x" * 12, "y" * 500])
    found = told(settings)["decisions"]
    assert (found["truncated"], found["windowed"]) == (2, 0)


def test_texts_that_a_model_reads_in_parts_are_counted(settings, tmp_path):
    with Memory(settings=settings) as memory:
        memory.add(["one note"])
    encoder = OnnxEmbedder(write_tiny_encoder(tmp_path / "tiny"))
    tokens = encoder.window
    long = [" ".join(["the water of the house"] * (count * tokens // 4)) for count in (2, 3)]
    with Memory(settings=settings.with_values({"store.path": tmp_path / "tiny.mem"}), embedder=encoder) as memory:
        vectors = memory.embeddings.embed_batch(["the house", *long, "of the water"])
        assert np.isfinite(vectors).all()
    found = told(settings)["decisions"]
    assert (found["windowed"], found["truncated"]) == (2, 0)


@pytest.mark.parametrize(
    ("windows", "texts"),
    [([], 0), ([0], 0), ([0, 1, 2], 0), ([0, 0], 1), ([0, 0, 0, 1, 2, 2], 2), ([0, 1, 1, 1, 1], 1)],
)
def test_a_text_in_several_windows_counts_once(windows, texts):
    seen = LongTexts()
    seen.note(windows)
    assert (seen.take(), seen.take()) == (texts, 0)


def test_what_is_kept_of_answers_is_bounded_private_and_without_words(settings):
    small = settings.with_values({"schedule.log_bytes": "8KiB"})
    answers = Answers(small)
    for number in range(1000):
        answers.note(number / 1000, degraded=False, fallback=False)
    found = answers.status()
    assert 50 < found["count"] < 300
    assert found["p99"] > 0.9, "the latest are kept"
    with Memory(settings=small) as memory:
        memory.search("a secret question")
    for path in small.schedule.folder.glob("answers*"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_size <= 4200
        assert "secret" not in path.read_text()
        path.write_text("no JSON\n[1, 2]\n" + path.read_text()[:-5])
    assert Answers(small).status()["count"] > 40


def test_where_nothing_may_be_kept_or_written_questions_are_answered_all_the_same(settings, tmp_path):
    with Memory(settings=settings.with_values({"schedule.log_bytes": 0})) as memory:
        memory.add(["one note"])
        assert len(memory.search("note")) == 1
        assert memory.status()["answers"]["count"] == 0
    (tmp_path / "a-file").write_text("")
    lost = settings.with_values({"schedule.folder": tmp_path / "a-file" / "folder"})
    with Memory(settings=lost) as memory:
        assert len(memory.search("note")) == 1
        assert memory.status()["answers"]["count"] == 0


WORKER = """
import sys
from omnimemory.config import load_settings
from omnimemory.memory import Memory
from store_cases import wait_until

settings = load_settings().with_values({"schedule.keep_alive": ["0.05"], "index.enabled": False})
with Memory(sys.argv[1], settings=settings) as memory:
    unloads = memory.scheduler.residency.unloads
    for number in range(2):
        memory.embeddings.embed_text("a text", use_cache=False)
        assert wait_until(lambda: unloads["idle"] > number, 60)
    memory.models.pin()
    memory.models.load()
    memory.models.unload()
"""

DYING = """
import sys
from omnimemory.config import load_settings
from omnimemory.memory import Memory
from omnimemory.scheduler.footprint import Request

with Memory(sys.argv[1], settings=load_settings()) as memory:
    with memory.scheduler.lease(Request("m", 1, 0, 100)):
        print("held", flush=True)
        sys.stdin.readline()
"""


def test_models_that_went_and_leases_of_the_dead_are_counted_for_every_process(settings):
    places = {"OMNIMEMORY_CACHE_PATH": str(settings.cache.path), "OMNIMEMORY_INDEX_ENABLED": "false"}
    run(WORKER, settings.store.path, **places)
    holder = start(DYING, settings.store.path, **places)
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.communicate()
    with Memory(settings=settings) as memory:
        memory.embeddings.embed_text("a text", use_cache=False)
    found = told(settings)["decisions"]
    assert found["unloaded"] == {"idle": 2, "asked": 1}
    assert (found["dead_purged"], found["thrashed"], found["ahead"]) == (1, 2, {})
