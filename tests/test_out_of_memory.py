"""Memory that runs out for real: a limit that bites, and ingests that live with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from omnimemory.embedders.static import StaticEmbedder
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import MemoryBudgetError
from omnimemory.scheduler.learned import Learned
from omnimemory.scheduler.observation import Observer
from omnimemory.scheduler.out_of_memory import RanOutError
from omnimemory.scheduler.probe import Available
from omnimemory.scheduler.scheduler import Scheduler

ROOT = Path(__file__).resolve().parents[1]
LINES = 12_000
PLENTY = Available(1 << 40, "a test", 1 << 41)


@pytest.fixture(scope="module")
def history(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("history") / "bash_history"
    rng = np.random.default_rng(1)
    words = np.array(["alpha", "beta", "gamma", "git push", "git pull", "commit", "rebase", "make", "test", "deploy"])
    path.write_text("".join(f"{' '.join(rng.choice(words, 6))} {n}\n" for n in range(LINES)))
    return path


def ingest(mode, tmp_path, history, mib) -> subprocess.CompletedProcess:
    arguments = [mode, str(tmp_path), str(history), str(mib)]
    return subprocess.run(
        [sys.executable, Path(__file__).with_name("memory_limit_child.py"), *arguments],
        cwd=ROOT,
        env={"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_the_limit_bites_without_the_scheduler(tmp_path, history):
    done = ingest("bare", tmp_path, history, 50)
    assert done.returncode != 0
    assert done.returncode < 0 or "MemoryError" in done.stderr


def test_an_ingest_with_less_memory_than_one_full_batch_ends_with_smaller_ones(tmp_path, history):
    done = ingest("scheduled", tmp_path, history, 50)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["added"] == found["embedded"] == LINES
    assert found["pending"] == 0
    assert found["data"] <= found["limit"]
    sizes = [items for _, items in found["batches"]]
    assert 0.9 * LINES < sum(sizes) < 1.1 * LINES  # what is granted are texts of middle length
    assert max(sizes) <= LINES // 2
    assert {action for action, _ in found["batches"][:-1]} == {"shrink"}


@pytest.mark.slow
def test_memory_that_runs_out_in_spite_of_a_lease_halves_the_batch_and_is_remembered(tmp_path, history):
    done = ingest("blind", tmp_path, history, 60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["added"] == found["embedded"] == LINES
    assert found["pending"] == 0
    assert found["learned"]["most_texts"] <= LINES // 2
    assert Learned(tmp_path / "learned.sqlite3").problem == ""


class Small(StaticEmbedder):
    """The static model on a machine that has no memory for more than so many texts, or for one certain text."""

    def __init__(self, most, never="?"):
        super().__init__()
        self.most, self.never, self.asked = most, never, []

    def embed(self, texts, role):
        self.asked.append(len(texts))
        if len(texts) > self.most or any(self.never in text for text in texts):
            np.zeros((1 << 50,), dtype=np.float64)  # numpy's own error
        return super().embed(texts, role)


def service(embedder, learned=None):
    observer = None if learned is None else Observer(learned)
    return EmbeddingService(
        embedder, cache=None, scheduler=Scheduler(reserve=0, probe=lambda: PLENTY), observer=observer
    )


@pytest.mark.parametrize("learns", [False, True], ids=["not-learning", "learning"])
def test_the_vectors_are_those_of_a_machine_with_enough_memory(learns):
    texts = [f"text {n}" for n in range(100)]
    small = Small(13)
    found = service(small, Learned(None) if learns else None).embed_batch(texts)
    assert (found == StaticEmbedder().embed(texts, "document")).all()
    assert small.asked[:4] == [100, 50, 25, 12]


def test_the_next_call_begins_with_what_fitted():
    learned, small = Learned(None), Small(13)
    first = service(small, learned)
    first.embed_batch([f"text {n}" for n in range(100)])
    small.asked.clear()
    service(small, learned).embed_batch([f"another {n}" for n in range(100)])
    assert set(small.asked) == {12, 4}
    assert first.learned_status()["most_texts"] == 12


def test_a_single_text_for_which_there_is_no_memory_is_an_error_with_the_fix_and_costs_the_others_nothing():
    texts = [f"text {n}" for n in range(20)] + ["the endless one"]
    small = Small(100, never="endless")
    with pytest.raises(
        MemoryBudgetError, match=r"Memory ran out while 1 text went through static.*raise the"
    ) as caught:
        service(small).embed_batch(texts)
    assert isinstance(caught.value, RanOutError)
    found = service(small).resolve(texts, "document")
    assert found.left == {20}
    assert found.embedded == 20
    assert isinstance(found.error, MemoryBudgetError)


def test_an_error_that_is_no_lack_of_memory_stays_what_it_is():
    class Broken(Small):
        def embed(self, texts, role):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        service(Broken(1)).embed_batch(["a", "b"])


def test_onnx_runtime_says_it_in_a_way_that_is_recognised(minilm, tmp_path):
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from memory_limit_child import limit_growth\n"
        "from omnimemory.embedders.installed import find_installed\n"
        "from omnimemory.embedders.onnx import OnnxEmbedder\n"
        "from omnimemory.scheduler.out_of_memory import is_out_of_memory\n"
        "model = OnnxEmbedder.of_installed(find_installed(Path(sys.argv[1]), 'minilm'), threads=1)\n"
        "model.embed(['a'], 'document')\n"
        "limit_growth(3)\n"
        "try:\n"
        "    model.embed(['word ' * 60 + str(n) for n in range(50)], 'document')\n"
        "except Exception as error:\n"
        "    print(is_out_of_memory(error), type(error).__module__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, minilm.folder.parent],
        cwd=ROOT,
        env={"HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.stdout.split()[0] == "True", done.stderr
