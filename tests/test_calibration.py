"""Calibrating a model: real sweeps in real children, what they teach, and what they say when they cannot."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from omnimemory.calibration.calibrate import calibrate
from omnimemory.calibration.sweep import BUDGETS
from omnimemory.cli import cli
from omnimemory.embedders.static import StaticEmbedder
from omnimemory.embedding_costs import learned_key
from omnimemory.errors import ConfigError, EmbedderError
from omnimemory.memory import Memory
from omnimemory.model_choice import choose_embedder
from omnimemory.scheduler.learned import Learned, Shape
from tools.tiny_encoders import write_tiny_encoder

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny(settings, folder, tmp_path):
    return settings.with_values(
        {"embedding.model": f"onnx:{folder}", "memory.learned": tmp_path / "learned.sqlite3", "embedding.threads": 1}
    )


@pytest.mark.slow
def test_every_size_is_measured_and_the_best_is_used_by_the_next_memory(tiny):
    with Memory(settings=tiny) as memory:
        usual = memory.embeddings.embedder.budget
        steps = []
        found = memory.calibrate(rounds=2, progress=steps.append)
        assert {point.budget for point in found.points} == set(BUDGETS)
        assert all(point.speed > 0 and point.texts > 0 for point in found.points)
        assert (found.budget in BUDGETS, found.before, found.skipped) == (True, None, ())
        assert memory.embeddings.embedder.budget == found.budget
        assert [step.done for step in steps][-1] == 2 * len(found.points)
        assert memory.status()["learned"]["budget"] == found.budget
    learned, key = Learned(tiny.memory.learned), learned_key(choose_embedder(tiny))
    assert learned.budget(key) == found.budget
    assert learned.seen(key, Shape(0, 0, 0)) == 1
    learned.set_budget(key, 2048)
    with Memory(settings=tiny) as memory:
        assert memory.embeddings.embedder.budget == 2048 != usual
    learned.set_budget(key, 3)  # no sensible size
    with Memory(settings=tiny) as memory:
        assert memory.embeddings.embedder.budget == usual
    with Memory(settings=tiny.with_values({"memory.learn": False})) as memory:
        assert memory.embeddings.embedder.budget == usual


def test_larger_batches_were_seen_to_need_more(tiny):
    found = calibrate(tiny, rounds=1)
    longest = max(point.length for point in found.points)
    needs = [point.need for point in found.points if point.length == longest]
    assert needs == sorted(needs)
    assert needs[-1] > 4 * max(1, needs[0])
    assert all(point.fit >= point.need for point in found.points)


def test_a_model_without_such_batches_is_measured_by_numbers_of_texts(settings, tmp_path):
    with Memory(settings=settings.with_values({"memory.learned": tmp_path / "l.sqlite3"})) as memory:
        found = memory.calibrate(rounds=1)
    assert found.budget is None
    assert found.model == StaticEmbedder().name
    assert {point.budget for point in found.points} == {None}
    assert len({point.texts for point in found.points}) == 4
    learned = Learned(tmp_path / "l.sqlite3")
    assert learned.seen(learned_key(StaticEmbedder()), Shape(0, 0, 0)) == 1


def test_sizes_for_which_there_is_no_memory_are_not_tried_and_told(tiny, folder):
    script = (
        "import sys; from pathlib import Path; import omnimemory.calibration.sweep; "
        "from omnimemory.embedders.onnx import OnnxEmbedder; from omnimemory.scheduler.own_memory import held\n"
        "model = OnnxEmbedder(Path(sys.argv[1]), threads=1); model.embed(['the warm water'], 'document')\n"
        "print(held().private)"
    )
    done = subprocess.run([sys.executable, "-c", script, folder], cwd=ROOT, capture_output=True, text=True, check=True)
    most = int(done.stdout) + (8 << 20)
    found = calibrate(tiny.with_values({"memory.max_bytes": most, "memory.reserve": 0}), rounds=1)
    assert found.skipped
    assert 0 < len(found.points) < 3 * len(BUDGETS)
    assert "memory" in found.skipped[-1]


def test_when_the_time_is_up_no_other_size_begins_and_that_is_told(tiny):
    steps = []
    found = calibrate(tiny, rounds=2, seconds=0.0, progress=steps.append)
    assert len(found.points) == 1
    assert found.budget is None  # one length says nothing about a size
    sizes = 1 + len(found.skipped)
    assert sizes >= 2 * len(BUDGETS)
    assert all("the time was up" in told for told in found.skipped)
    assert (steps[-1].done, steps[-1].total) == (sizes, 2 * sizes)


def test_without_any_memory_it_is_an_error_that_says_why(tiny):
    with pytest.raises(EmbedderError, match=r"could not be calibrated: There is no memory for even one text"):
        calibrate(tiny.with_values({"memory.max_bytes": 1}), rounds=1)


def test_a_model_on_a_server_is_not_ours_to_calibrate(settings):
    with pytest.raises(ConfigError, match="run by a server"):
        calibrate(settings, "ollama:nomic-embed-text")


def test_a_model_that_cannot_be_loaded_says_so(settings, folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "tokenizer.json").write_bytes(b"nothing")
    with pytest.raises(EmbedderError, match=r"calibration ended with code 1: .*tokenizer"):
        calibrate(settings, f"onnx:{broken}", rounds=1)


def test_the_command_prints_one_object(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_MEMORY_LEARNED", str(tmp_path / "learned.sqlite3"))
    done = CliRunner().invoke(cli, ["models", "calibrate", f"onnx:{folder}", "--rounds", "1"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["budget"] in BUDGETS
    assert found["points"][0].keys() == {"budget", "length", "texts", "speed", "need", "fit"}
    assert CliRunner().invoke(cli, ["models", "calibrate", "--rounds", "0"]).exit_code == 2
