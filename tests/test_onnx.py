"""The onnx embedder on encoders with random weights, compared with what torch computes from the same weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.embedders import onnx_session
from omnimemory.embedders.base import UnembeddableTextError
from omnimemory.embedders.batches import plan
from omnimemory.embedders.onnx import OnnxEmbedder
from omnimemory.errors import ConfigError, EmbedderError, InvalidVectorError
from tools.golden_vectors import TINY_TEXTS
from tools.tiny_encoders import KINDS, write_tiny_encoder

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = np.load(Path(__file__).with_name("golden_vectors.npz"))
LONG = " ".join(f"word {number} of the list" for number in range(40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    """Return a folder that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


def cosines(a, b):
    return (a.astype(np.float64) * b).sum(axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_computes_what_torch_computes_from_the_same_weights(kind, tmp_path):
    made = OnnxEmbedder(write_tiny_encoder(tmp_path, kind)).embed(TINY_TEXTS, "document")
    assert cosines(made, GOLDEN[kind]).min() >= 0.999999


@pytest.mark.parametrize("kind", KINDS)
def test_integers_stay_near_the_floats(kind, tmp_path):
    made = OnnxEmbedder(write_tiny_encoder(tmp_path, kind), precision="int8").embed(TINY_TEXTS, "document")
    assert 0.998 < cosines(made, GOLDEN[kind]).min() < 1 - 1e-9


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("budget", [1, 40, 100_000])
@pytest.mark.parametrize("threads", [1, 3])
def test_budget_and_threads_change_no_vector(folder, precision, budget, threads):
    texts = [*TINY_TEXTS, LONG, "one", "two three", *TINY_TEXTS]
    usual = OnnxEmbedder(folder, precision=precision).embed(texts, "document")
    made = OnnxEmbedder(folder, precision=precision, budget=budget, threads=threads).embed(texts, "document")
    np.testing.assert_allclose(made, usual, rtol=0, atol=2e-6)


def test_texts_that_were_read_ahead_have_the_same_vectors_and_are_tokenised_once(folder, monkeypatch):
    embedder, texts = OnnxEmbedder(folder, prompts={"document": "passage: "}), ["one two", LONG]
    embedder.read_ahead(texts, "document")
    assert not embedder.loaded
    usual = embedder.embed(texts, "document")
    tokenizer, asked = embedder._model.tokenizer, []
    ids = tokenizer._ids
    monkeypatch.setattr(tokenizer, "_ids", lambda some: asked.extend(some) or ids(some))
    embedder.read_ahead(texts, "document")
    assert (embedder.embed(texts, "document") == usual).all()
    assert asked == [f"passage: {text}" for text in texts] + ["passage:"]


@given(st.lists(st.integers(1, 60), max_size=60), st.integers(1, 700), st.integers(1, 5))
def test_batches_hold_every_row_once_within_the_budget_and_the_last_ones_are_small(lengths, budget, workers):
    rows = [tuple(range(length)) for length in lengths]
    batches = plan(rows, budget, workers)
    assert sorted(row for batch in batches for row in batch.rows.tolist()) == list(range(len(rows)))
    left = sum(lengths)
    for batch in batches:
        assert [tuple(ids[mask == 1]) for ids, mask in zip(batch.ids, batch.mask, strict=True)] == [
            rows[row] for row in batch.rows
        ]
        most = budget if workers == 1 else min(budget, max(128, left / (2 * workers)))
        assert len(batch.rows) == 1 or batch.ids.size <= most
        left -= batch.mask.sum()


def test_a_few_texts_are_shared_between_the_cores(folder, monkeypatch):
    seen, run = [], onnx_session.run_batches
    monkeypatch.setattr(onnx_session, "run_batches", lambda *given: seen.append(given) or run(*given))
    texts = [f"word {number} of " * 6 for number in range(20)]
    for threads in (1, 2, 3):
        OnnxEmbedder(folder, threads=threads).embed(texts, "document")
    batches = {workers: [len(batch.rows) for batch in planned] for _, planned, _, _, workers in seen}
    assert list(batches) == [1, 2, 3]
    assert all(sum(rows) == 20 and max(rows) <= 20 // workers for workers, rows in batches.items())


def test_another_process_computes_the_same(folder):
    script = (
        "import json, sys\nfrom omnimemory.embedders.onnx import OnnxEmbedder\n"
        "folder, texts = json.load(sys.stdin)\n"
        "made = OnnxEmbedder(folder, threads=1, precision='int8')\n"
        "print(json.dumps([made.fingerprint, made.embed(texts, 'document').tolist()]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([str(folder), TINY_TEXTS]),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    fingerprint, vectors = json.loads(done.stdout)
    here = OnnxEmbedder(folder, precision="int8")
    assert fingerprint == here.fingerprint
    np.testing.assert_allclose(vectors, here.embed(TINY_TEXTS, "document"), rtol=0, atol=2e-6)


def test_a_long_text_is_read_to_its_end_by_windows(folder):
    made = OnnxEmbedder(folder)
    whole, changed, cut = made.embed([LONG, f"{LONG} undo", LONG[: len(LONG) // 3]], "document")
    assert made.count_tokens([LONG])[0] > 5 * made.window
    assert 1 - whole @ changed > 1e-4
    assert 1 - whole @ cut > 1e-4


def test_the_vector_of_a_long_text_is_the_weighted_mean_of_its_windows(folder):
    made = OnnxEmbedder(folder)
    words = ["git"] * made.window + ["docker"] * (made.window // 2)
    # Windows are of equal length: the cut is at half of the words, not at the end of the first kind.
    half = len(words) // 2
    parts = made.embed([" ".join(words[:half]), " ".join(words[half:])], "document")
    weights = np.array([half, len(words) - half], dtype=np.float64)
    expected = (parts * weights[:, None]).sum(axis=0)
    whole = made.embed([" ".join(words)], "document")[0]
    np.testing.assert_allclose(whole, expected / np.linalg.norm(expected), atol=2e-6)


def test_a_prompt_stands_before_every_window(folder):
    plain = OnnxEmbedder(folder)
    prompted = OnnxEmbedder(folder, prompts={"query": "the word: "})
    np.testing.assert_array_equal(prompted.embed(["undo"], "document"), plain.embed(["undo"], "document"))
    np.testing.assert_allclose(
        prompted.embed(["undo"], "query"), plain.embed(["the word: undo"], "document"), atol=2e-6
    )
    room = plain.window - plain.count_tokens(["the word:"])[0]
    parts = [" ".join(["git"] * room), " ".join(["git"] * room)]
    one_window = prompted.embed(parts[:1], "query")
    np.testing.assert_allclose(prompted.embed([" ".join(parts)], "query"), one_window, atol=2e-6)
    assert prompted.fingerprint != plain.fingerprint


def test_prompts_come_from_the_folder(copy):
    (copy / "config_sentence_transformers.json").write_text('{"prompts": {"query": "the word: ", "passage": "line "}}')
    made, plain = OnnxEmbedder(copy), OnnxEmbedder(copy, prompts={"query": "", "document": ""})
    np.testing.assert_allclose(made.embed(["undo"], "query"), plain.embed(["the word: undo"], "query"), atol=2e-6)
    np.testing.assert_allclose(made.embed(["undo"], "document"), plain.embed(["line undo"], "query"), atol=2e-6)


def test_a_prompt_that_fills_the_window_is_refused(folder):
    with pytest.raises(EmbedderError, match="choose a shorter one"):
        OnnxEmbedder(folder, prompts={"query": "word " * 40}).embed(["undo"], "query")


def test_the_maximum_is_that_of_the_folder_and_never_beyond_the_positions(copy):
    assert OnnxEmbedder(copy).window == 30
    assert OnnxEmbedder(copy, max_tokens=16).window == 14
    assert OnnxEmbedder(copy, max_tokens=5000).window == 64
    assert OnnxEmbedder(copy, max_tokens=16).fingerprint != OnnxEmbedder(copy).fingerprint
    (copy / "sentence_bert_config.json").unlink()
    assert OnnxEmbedder(copy).window == 64


def test_a_text_of_unknown_signs_only_has_no_vector_and_is_named(folder):
    with pytest.raises(UnembeddableTextError, match=r"\[1\]") as caught:
        OnnxEmbedder(folder).embed(["undo", "\u2603\u2603", "git \u2603"], "document")
    assert caught.value.indexes == (1,)
    assert "no word of it" in caught.value.reasons[1]


def test_sizes_are_those_that_are_allowed(folder):
    whole, cut = OnnxEmbedder(folder), OnnxEmbedder(folder, dim=16, dims=(32, 16))
    vectors = whole.embed(TINY_TEXTS, "document")[:, :16]
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(cut.embed(TINY_TEXTS, "document"), expected, atol=1e-6)
    assert (whole.dim, cut.dim, whole.dims, OnnxEmbedder(folder, dims=(32, 16)).dims) == (64, 16, (), (32, 16))
    with pytest.raises(ConfigError, match=r"no vectors of 17 dimensions.*choose from 64, 32"):
        OnnxEmbedder(folder, dim=17, dims=(32,))
    with pytest.raises(ConfigError, match="no precision 'int4'"):
        OnnxEmbedder(folder, precision="int4")


def test_names_say_precision_and_size(folder):
    assert OnnxEmbedder(folder, name="tiny").name == "onnx:tiny@float32"
    assert OnnxEmbedder(folder, name="tiny", precision="int8", dim=16, dims=(16,)).name == "onnx:tiny@int8:16"


def test_the_space_is_that_of_the_weights_wherever_they_are(copy, folder):
    assert OnnxEmbedder(copy, name="other").fingerprint == OnnxEmbedder(folder).fingerprint
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert OnnxEmbedder(copy).fingerprint != OnnxEmbedder(folder).fingerprint


def test_weights_that_are_not_numbers_make_an_error_and_no_vector(copy):
    data = (copy / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    begin = 8 + size + json.loads(data[8 : 8 + size])["encoder.layer.2.output.LayerNorm.bias"]["data_offsets"][0]
    (copy / "model.safetensors").write_bytes(data[:begin] + np.float32(np.nan).tobytes() + data[begin + 4 :])
    with pytest.raises(InvalidVectorError, match="not finite"):
        OnnxEmbedder(copy).embed(["undo"], "document")


def test_an_error_in_one_thread_ends_all_and_is_raised(folder):
    made = OnnxEmbedder(folder, threads=3, budget=1)
    made.embed(["undo"], "document")
    model = made._model
    assert model is not None

    def fail(batch):
        raise EmbedderError("a thread failed")

    object.__setattr__(model, "compute", fail)
    with pytest.raises(EmbedderError, match="a thread failed"):
        made.embed([*TINY_TEXTS, LONG], "document")


def test_the_runtime_leaves_no_identifier_of_the_machine_and_no_session_file(folder, tmp_path):
    quiet = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "TF_BUILD", "ORT_DISABLE_TELEMETRY")
    places = {"HOME": "home", "XDG_CACHE_HOME": "home/.cache", "TMPDIR": "tmp"}
    for place in places.values():
        (tmp_path / place).mkdir(exist_ok=True)
    program = (
        "import sys; from omnimemory.embedders.onnx import OnnxEmbedder; "
        "print(OnnxEmbedder(sys.argv[1]).embed(['git log'], 'query').shape)"
    )
    kept = {name: value for name, value in os.environ.items() if name not in quiet}
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        env={**kept, **{name: str(tmp_path / place) for name, place in places.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(1, 64)\n"
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "home",
        "home/.cache",
        "tmp",
    ]
