"""The mlx embedder on encoders with random weights, compared with what torch computes from the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from omnimemory.embedders.base import UnembeddableTextError
from omnimemory.embedders.mlx.embedder import TOLERANCE, MlxEmbedder
from omnimemory.embedders.onnx import OnnxEmbedder
from omnimemory.errors import ConfigError, EmbedderError, InvalidVectorError
from tools.golden_vectors import TEXTS, TINY_TEXTS
from tools.tiny_encoders import KINDS, write_tiny_encoder

mx = pytest.importorskip("mlx.core", reason="needs MLX: pip install 'omnimemory[mlx]'")

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = np.load(Path(__file__).with_name("golden_vectors.npz"))
LONG = " ".join(f"word {number} of the list" for number in range(40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny"))


def cosines(a, b):
    return (a.astype(np.float64) * b).sum(axis=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("precision", "least"), [("float32", 0.999999), ("bfloat16", 0.999)])
def test_it_computes_what_torch_computes_from_the_same_weights(kind, precision, least, tmp_path):
    made = MlxEmbedder(write_tiny_encoder(tmp_path, kind), precision=precision).embed(TINY_TEXTS, "document")
    assert cosines(made, GOLDEN[kind]).min() >= least


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([0, 1, 3, 4, 8, 9, 15], id="short-texts"),
        pytest.param(range(16), id="all-texts", marks=pytest.mark.soak),  # long ones take the reference BLAS minutes
    ],
)
def test_minilm_is_that_of_sentence_transformers(minilm, places):
    made = MlxEmbedder.of_installed(minilm).embed([TEXTS[place] for place in places], "document")
    assert cosines(made, GOLDEN["minilm"][list(places)]).min() >= 0.9999


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_text_has_the_same_vector_in_every_batch(folder, precision):
    texts = [*TINY_TEXTS, LONG, "one", "two three", *TINY_TEXTS]
    usual = MlxEmbedder(folder, precision=precision).embed(texts, "document")
    for budget in (1, 40, 100_000):
        made = MlxEmbedder(folder, precision=precision, budget=budget)
        assert cosines(made.embed(texts, "document"), usual).min() >= TOLERANCE[precision]
    alone = np.concatenate([made.embed([text], "document") for text in texts])
    assert cosines(alone, usual).min() >= TOLERANCE[precision]


def test_windows_prompts_and_sizes_are_those_of_the_other_encoders(folder):
    asked = {"prompts": {"query": "the word: "}, "dim": 32, "dims": (32, 16), "max_tokens": 16}
    ours, other = MlxEmbedder(folder, **asked), OnnxEmbedder(folder, **asked)
    for role in ("query", "document"):
        np.testing.assert_allclose(ours.embed([LONG, "undo"], role), other.embed([LONG, "undo"], role), atol=2e-6)
    assert (ours.dim, ours.dims, ours.window) == (other.dim, other.dims, other.window) == (32, (16,), 14)
    assert ours.count_tokens([LONG, ""]) == other.count_tokens([LONG, ""])
    assert ours.embed([], "query").shape == (0, 32)


def test_texts_that_were_read_ahead_have_the_same_vectors_and_are_tokenised_once(folder, monkeypatch):
    embedder, texts = MlxEmbedder(folder), ["one two", "three"]
    embedder.read_ahead(texts, "document")
    assert not embedder.loaded
    usual = embedder.embed(texts, "document")
    tokenizer, asked = embedder._loaded.tokenizer, []
    ids = tokenizer._ids
    monkeypatch.setattr(tokenizer, "_ids", lambda some: asked.extend(some) or ids(some))
    embedder.read_ahead(texts, "document")
    assert (embedder.embed(texts, "document") == usual).all()
    assert asked == texts


def test_the_space_knows_all_that_changes_a_vector(folder):
    plain = MlxEmbedder(folder)
    others = [
        MlxEmbedder(folder, precision="bfloat16"),
        MlxEmbedder(folder, dim=16, dims=(16,)),
        MlxEmbedder(folder, prompts={"query": "x"}),
        MlxEmbedder(folder, max_tokens=8),
        OnnxEmbedder(folder),
    ]
    assert len({plain.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1
    assert MlxEmbedder(folder, name="other", budget=3).fingerprint == plain.fingerprint
    assert MlxEmbedder(folder, name="tiny").name == "mlx:tiny@float32"
    assert MlxEmbedder(folder, name="tiny", precision="bfloat16", dim=16, dims=(16,)).name == "mlx:tiny@bfloat16:16"


def test_options_that_the_model_does_not_have_are_refused(folder):
    with pytest.raises(
        ConfigError, match=r"computes in float32 or bfloat16, not 'int8': leave embedding.precision out"
    ):
        MlxEmbedder(folder, precision="int8")
    with pytest.raises(ConfigError, match="choose from 64, 32"):
        MlxEmbedder(folder, dim=17, dims=(32,))


def test_a_text_of_unknown_signs_only_has_no_vector_and_is_named(folder):
    with pytest.raises(UnembeddableTextError) as caught:
        MlxEmbedder(folder).embed(["undo", "\u2603\u2603"], "document")
    assert caught.value.indexes == (1,)


def test_weights_that_are_not_numbers_make_an_error_and_no_vector(tmp_path):
    weights = write_tiny_encoder(tmp_path) / "model.safetensors"
    data = weights.read_bytes()
    size = int.from_bytes(data[:8], "little")
    begin = 8 + size + json.loads(data[8 : 8 + size])["encoder.layer.2.output.LayerNorm.bias"]["data_offsets"][0]
    weights.write_bytes(data[:begin] + np.float32(np.nan).tobytes() + data[begin + 4 :])
    with pytest.raises(InvalidVectorError, match="not finite"):
        MlxEmbedder(tmp_path).embed(["undo"], "document")


def test_threads_share_one_model(folder):
    made = MlxEmbedder(folder, budget=16)
    usual = MlxEmbedder(folder).embed(TINY_TEXTS, "document")
    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(lambda _: made.embed(TINY_TEXTS, "document"), range(24)):
            np.testing.assert_allclose(found, usual, atol=2e-6)
    computing = [name for name in _threads() if name.startswith("omnimemory-mlx")]
    assert len(computing) <= 3  # one for each embedder here that is still alive


def _threads():
    import threading

    return [thread.name for thread in threading.enumerate()]


def test_a_closed_model_is_loaded_again(folder):
    made = MlxEmbedder(folder)
    assert not made.loaded
    first = made.embed(TINY_TEXTS, "document")
    assert made.loaded
    made.close()
    made.close()
    assert not made.loaded
    np.testing.assert_array_equal(made.embed(TINY_TEXTS, "document"), first)


def child(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


EMBED = (
    "import sys\nfrom omnimemory.embedders.mlx.embedder import MlxEmbedder\n"
    "made = MlxEmbedder(sys.argv[1])\nprint(made.embed(['git log'], 'query').shape)\n"
)


@pytest.mark.skipif(sys.platform != "linux", reason="Metal needs no BLAS")
def test_the_reference_blas_is_told_of_once_and_openblas_is_not(folder):
    program = EMBED + "MlxEmbedder(sys.argv[1]).embed(['git'], 'query')"
    told = child(program, str(folder), LD_PRELOAD="")
    assert (told.returncode, told.stdout) == (0, "(1, 64)\n")
    assert told.stderr.count("reference BLAS") == 1
    assert "LD_PRELOAD=libopenblas.so.0" in told.stderr
    library = next(Path(mx.__file__).parents[1].glob("mlx_cpu.libs/libblas*"))
    preload = f"import ctypes\nctypes.CDLL({str(library)!r}, mode=ctypes.RTLD_GLOBAL)\n"
    quiet = child(preload + EMBED, str(folder), LD_LIBRARY_PATH=str(library.parent), LD_PRELOAD="")
    assert (quiet.returncode, quiet.stderr) == (0, "")


def test_without_mlx_the_error_names_the_extra_and_the_folder_is_read_all_the_same(folder):
    done = child("import sys\nsys.modules['mlx'] = None\n" + EMBED, str(folder))
    assert done.stderr.endswith(
        "Embedding with MLX needs the extra 'mlx'. Install it with: pip install 'omnimemory[mlx]'\n"
    )


def test_an_mlx_that_does_not_load_is_an_error_with_the_fix(folder, tmp_path):
    (tmp_path / "mlx").mkdir()
    (tmp_path / "mlx" / "core.py").write_text("raise ImportError('libmlx.so: cannot open shared object file')")
    (tmp_path / "mlx" / "__init__.py").touch()
    done = child(EMBED, str(folder), PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert "MLX is installed and cannot be loaded (libmlx.so: cannot open" in done.stderr
    assert "pip install 'omnimemory[mlx]'" in done.stderr


FORKED = (
    "import os, signal, sys\nfrom omnimemory.embedders.mlx.embedder import MlxEmbedder\n"
    "from omnimemory.errors import EmbedderError\n"
    "made = MlxEmbedder(sys.argv[1])\nmade.embed(['git log'], 'query')\n"
    "if os.fork() == 0:\n"
    "    signal.alarm(30)\n"
    "    for one in (made, MlxEmbedder(sys.argv[1])):\n"
    "        try:\n            one.embed(['git log'], 'query')\n"
    "        except EmbedderError as error:\n            print(error, flush=True)\n"
    "        one.close()\n"
    "    os._exit(0)\n"
    "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
)


def test_a_forked_child_gets_an_error_and_waits_for_nothing(folder):
    done = child(FORKED, str(folder))
    assert done.returncode == 0, done.stderr
    assert [line.partition(",")[0] for line in done.stdout.splitlines()] == [
        "This process was forked from one that used MLX"
    ] * 2


DAMAGES = {
    "other-architecture": (lambda f: _change(f / "config.json", model_type="t5"), "of the kind 't5'"),
    "only-a-graph": (lambda f: (f / "model.safetensors").rename(f / "model.onnx"), "model.safetensors is missing"),
    "cut": (lambda f: _cut(f / "model.safetensors"), "no complete safetensors file"),
    "more-layers": (lambda f: _change(f / "config.json", num_hidden_layers=4), "no tensor encoder.layer.3"),
    "other-inner": (lambda f: _change(f / "config.json", intermediate_size=80), r"shape \(160,\), not \(80,\)"),
    "no-floats": (lambda f: _integers(f / "model.safetensors"), "holds mlx.core.int32, not floating numbers"),
    "words": (lambda f: _change(f / "config.json", hidden_size=32), r"shape \(\d+, 64\), not \(\d+, 32\)"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_folder_that_does_not_fit_is_refused_before_any_vector_is_made(tmp_path, name):
    damage, message = DAMAGES[name]
    damage(write_tiny_encoder(tmp_path))
    with pytest.raises(EmbedderError, match=message):
        MlxEmbedder(tmp_path).embed(["undo"], "document")


def _change(path: Path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _cut(path: Path):
    path.write_bytes(path.read_bytes()[:-1000])


def _integers(path: Path):
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"'))
