"""EmbeddingGemma by MLX: a small one with random weights, compared with sentence-transformers, and its folders."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omnimemory.embedders.mlx.embedder import TOLERANCE, MlxEmbedder
from omnimemory.embedders.mlx.folder import read_mlx_folder
from omnimemory.embedders.model_sources import FolderSource
from omnimemory.embedders.models import find_card, known_models
from omnimemory.embedders.onnx import OnnxEmbedder
from omnimemory.embedders.pull import pull_model
from omnimemory.embedders.tensors import Tensors
from omnimemory.errors import EmbedderError
from omnimemory.model_choice import choose_embedder
from tools.tiny_gemma import GEMMA_TEXTS, write_safetensors, write_tiny_gemma

GOLDEN = np.load(Path(__file__).with_name("golden_gemma.npz"))


@pytest.fixture(scope="session", autouse=True)
def _mlx():
    pytest.importorskip("mlx.core", reason="needs MLX: pip install 'omnimemory[mlx]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny_gemma(tmp_path_factory.mktemp("gemma"))


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    """Return a folder that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


def cosines(a, b):
    return (a.astype(np.float64) * b).sum(axis=1)


@pytest.mark.parametrize("role", ["document", "query"])
@pytest.mark.parametrize("kind", ["F32", "BF16"])
@pytest.mark.parametrize(("precision", "least"), [("float32", 0.99999), ("bfloat16", 0.999)])
def test_it_computes_what_sentence_transformers_computes(role, kind, precision, least, tmp_path):
    made = MlxEmbedder(write_tiny_gemma(tmp_path, kind=kind), precision=precision)
    assert max(made.count_tokens(GEMMA_TEXTS)) > 10 * made._model_folder.gemma.window
    assert cosines(made.embed(GEMMA_TEXTS, role), GOLDEN[f"{kind}-{role}"]).min() >= least


WRONG = {
    "window-narrower": {"window": 8},
    "window-wider": {"window": 10},
    "window-not-halved": {"window": 16},
    "no-window": {"window": 1000},
    "bases-swapped": {"bases": (1e4, 1e6)},
    "one-base": {"bases": (1e4, 1e4)},
    "usual-scale": {"scale": 32**-0.5},
    "all-near": {"sees_all": (False,) * 8},
    "epsilon": {"epsilon": 1.0},
}


@pytest.mark.parametrize("name", WRONG)
def test_the_comparison_would_notice_a_wrong_shape(folder, name):
    made = MlxEmbedder(folder)
    wrong = replace(made._model_folder.gemma, **WRONG[name])
    made._model_folder = replace(made._model_folder, gemma=wrong)
    assert cosines(made.embed(GEMMA_TEXTS, "document"), GOLDEN["F32-document"]).min() < 0.9995


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_text_has_the_same_vector_alone_and_in_every_batch(folder, precision):
    usual = MlxEmbedder(folder, precision=precision).embed(GEMMA_TEXTS, "document")
    for budget in (1, 100_000):  # alone, and all together: then the short ones are mostly padding
        made = MlxEmbedder(folder, precision=precision, budget=budget).embed(GEMMA_TEXTS, "document")
        assert cosines(made, usual).min() >= TOLERANCE[precision]


def test_vectors_may_be_cut_to_the_sizes_the_model_was_trained_for(folder):
    cut = MlxEmbedder(folder, dim=32, dims=(48, 32)).embed(GEMMA_TEXTS, "document")
    expected = GOLDEN["F32-document"][:, :32]
    assert cosines(cut, expected / np.linalg.norm(expected, axis=1, keepdims=True)).min() >= 0.99999


def test_a_long_text_is_read_by_windows_with_the_prompt_before_each(folder):
    made = MlxEmbedder(folder, max_tokens=64)
    words = "git " * 300
    whole, changed = made.embed([words, f"{words} undo"], "document")
    assert made.count_tokens([words])[0] > 4 * made.window
    assert 1 - whole @ changed > 1e-6


def change(path: Path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def beside_the_rest(folder: Path) -> None:
    """Move the dense layers into the model's own file, below ``model.`` and ``dense.`` as conversions for MLX do."""
    tensors = {f"model.{name}": np.array(tensor) for name, tensor in Tensors(folder / "model.safetensors").items()}
    for number in (2, 3):
        dense = folder / f"{number}_Dense" / "model.safetensors"
        tensors[f"dense.{number - 2}.weight"] = np.array(Tensors(dense)["linear.weight"])
        dense.unlink()
    write_safetensors(folder / "model.safetensors", tensors)


@pytest.mark.parametrize("modules", [True, False], ids=["with-modules", "without"])
def test_dense_layers_may_stand_beside_the_rest(copy, modules):
    beside_the_rest(copy)
    if not modules:
        for name in ("modules.json", "2_Dense/config.json", "3_Dense/config.json"):
            (copy / name).unlink()
    assert cosines(MlxEmbedder(copy).embed(GEMMA_TEXTS, "query"), GOLDEN["F32-query"]).min() >= 0.99999


def test_newer_configurations_say_the_same_in_other_words(copy):
    config = json.loads((copy / "config.json").read_text())
    expected = read_mlx_folder(copy).gemma
    for key in ("rope_theta", "rope_local_base_freq", "rope_scaling", "layer_types"):
        del config[key]
    rope = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
    (copy / "config.json").write_text(json.dumps({**config, "rope_parameters": rope}))
    assert read_mlx_folder(copy).gemma == expected
    del config["_sliding_window_pattern"]
    (copy / "config.json").write_text(json.dumps(config))
    assert read_mlx_folder(copy).gemma == expected


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def only_one_inside(folder: Path) -> None:
    beside_the_rest(folder)
    tensors = {name: np.array(tensor) for name, tensor in Tensors(folder / "model.safetensors").items()}
    del tensors["dense.1.weight"]
    write_safetensors(folder / "model.safetensors", tensors)


def modules(*names: str):
    return json.dumps([{"path": f"{n}_{name}", "type": f"m.{name}"} for n, name in enumerate(names)])


DAMAGES = {
    "left-to-right": (
        lambda f: change(f / "config.json", use_bidirectional_attention=False),
        "reads from left to right",
    ),
    "stretched": (lambda f: change(f / "config.json", rope_scaling={"factor": 8.0}), "stretches its positions"),
    "capped": (lambda f: change(f / "config.json", attn_logit_softcapping=50.0), "attn_logit_softcapping is 50.0"),
    "activation": (lambda f: change(f / "config.json", hidden_activation="silu"), "activation is 'silu'"),
    "layers": (lambda f: change(f / "config.json", layer_types=["full_attention"]), "must name 8 layers"),
    "kind-of-layer": (lambda f: change(f / "config.json", layer_types=["mamba"] * 8), "must name 8 layers"),
    "no-head-dim": (lambda f: change(f / "config.json", head_dim=None), "no sensible head_dim"),
    "other-head-dim": (lambda f: change(f / "config.json", head_dim=16), r"shape \(96, 96\), not \(48, 96\)"),
    "no-modules": (lambda f: (f / "modules.json").unlink(), "no modules.json.*2_Dense and 3_Dense included"),
    "no-dense": (lambda f: shutil.rmtree(f / "3_Dense"), "no .*3_Dense/config.json"),
    "no-dense-weights": (lambda f: (f / "2_Dense/model.safetensors").unlink(), "no weights file .*2_Dense"),
    "dense-cut": (lambda f: cut(f / "2_Dense/model.safetensors"), "2_Dense.* no complete safetensors"),
    "dense-shape": (lambda f: change(f / "2_Dense/config.json", out_features=7), r"shape \(192, 96\), not \(7, 96\)"),
    "dense-activation": (
        lambda f: change(f / "2_Dense/config.json", activation_function="a.ReLU"),
        "'ReLU' is not known",
    ),
    "dense-elsewhere": (lambda f: (f / "modules.json").write_text(ELSEWHERE), "a folder that is not in this one"),
    "other-part": (lambda f: (f / "modules.json").write_text(modules("WeightedLayerPooling")), "WeightedLayerPooling"),
    "one-inside": (only_one_inside, r"no tensor dense\.1\.weight"),
    "foreign-quantisation": (
        lambda f: change(f / "config.json", quantization_config={"quant_method": "bitsandbytes"}),
        "a way that MLX does not know",
    ),
    "cut": (lambda f: cut(f / "model.safetensors"), "model.safetensors is no complete safetensors"),
}
ELSEWHERE = json.dumps([{"path": "../other", "type": "m.Dense"}])


@pytest.mark.parametrize("name", DAMAGES)
def test_a_folder_that_is_not_understood_is_refused(copy, name):
    damage, message = DAMAGES[name]
    damage(copy)
    with pytest.raises(EmbedderError, match=message):
        MlxEmbedder(copy).embed(["git"], "document")


def test_the_space_knows_the_dense_layers(copy):
    first = MlxEmbedder(copy).fingerprint
    data = bytearray((copy / "3_Dense/model.safetensors").read_bytes())
    data[-2] ^= 1
    (copy / "3_Dense/model.safetensors").write_bytes(data)
    second = MlxEmbedder(copy).fingerprint
    change(copy / "3_Dense/config.json", activation_function="torch.nn.modules.activation.Tanh")
    assert len({first, second, MlxEmbedder(copy).fingerprint}) == 3


def test_the_other_encoders_say_who_can_run_it(folder):
    with pytest.raises(EmbedderError, match=r"of the kind 'gemma3_text'.*MLX runs it: mlx:FOLDER"):
        OnnxEmbedder(folder)


def test_the_usual_model_of_mlx_is_embeddinggemma(settings, folder, tmp_path):
    chosen = settings.with_values({"models.path": tmp_path / "models", "embedding.model": "mlx"})
    with pytest.raises(EmbedderError, match="embeddinggemma-300m-bf16 has not been pulled yet"):
        choose_embedder(chosen)
    card = find_card("mlx", known_models())
    assert (card.provider, card.hub) == ("mlx", "mlx-community/embeddinggemma-300m-bf16")
    pull_model(replace(card, dim=96, dims=(48,)), chosen.models.path, [FolderSource(folder)])
    made = choose_embedder(chosen)
    assert made.name == "mlx:embeddinggemma-300m-bf16@float32"
    assert made.fingerprint == MlxEmbedder(folder, max_tokens=2048, name="other").fingerprint
    assert cosines(made.embed(GEMMA_TEXTS, "query"), GOLDEN["F32-query"]).min() >= 0.99999


def test_a_pull_of_a_folder_without_its_dense_layers_is_refused(copy, tmp_path):
    shutil.rmtree(copy / "2_Dense")
    with pytest.raises(EmbedderError, match=r"2_Dense/config\.json"):
        pull_model(find_card("mlx", known_models()), tmp_path / "models", [FolderSource(copy)])
    assert not (tmp_path / "models" / "embeddinggemma-300m-bf16").exists()
