"""Which model a memory takes: what is asked for, what its store was made with, what is here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from omnimemory.embedders.installed import InstalledModel
from omnimemory.embedders.model_sources import FolderSource
from omnimemory.embedders.models import find_card, known_models
from omnimemory.embedders.onnx import OnnxEmbedder
from omnimemory.embedders.pull import pull_model, remove_model
from omnimemory.embedders.static import StaticEmbedder
from omnimemory.errors import ConfigError, EmbedderError, SpaceMismatchError
from omnimemory.memory import Memory
from omnimemory.model_choice import choose_embedder, first_choice
from omnimemory.search import VECTOR_WEIGHTS, vector_weight
from omnimemory.storage.recorded_space import recorded_space
from tools.tiny_encoders import write_tiny_encoder

FILES = dict.fromkeys(("model.safetensors", "tokenizer.json", "config.json"), "")


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("origin"))


@pytest.fixture
def chosen(settings, tmp_path):
    """Return settings with a folder of models of the test's own."""
    return settings.with_values({"models.path": tmp_path / "models", "models.table": tmp_path / "models.toml"})


@pytest.fixture
def stand_in(chosen, origin) -> InstalledModel:
    """Install a tiny encoder under the name of MiniLM."""
    card = replace(find_card("minilm", known_models()), dim=64, dims=(32,), files=FILES)
    return pull_model(card, chosen.models.path, [FolderSource(origin)])


def name_in(settings, **values) -> str:
    with Memory(settings=settings.with_values({f"embedding.{key}": value for key, value in values.items()})) as memory:
        return memory.embeddings.embedder.name


def test_a_new_memory_takes_the_static_model_when_nothing_else_is_here(chosen):
    assert first_choice(chosen) == "static"
    assert name_in(chosen) == "static:wordllama-256"


def test_a_new_memory_takes_minilm_when_it_was_pulled(chosen, stand_in):
    assert first_choice(chosen) == "onnx:all-MiniLM-L6-v2"
    assert name_in(chosen) == "onnx:all-MiniLM-L6-v2@int8"
    assert recorded_space(chosen.store.path).model == "onnx:all-MiniLM-L6-v2@int8"


def test_a_size_that_minilm_does_not_have_means_the_static_model(chosen, stand_in):
    assert name_in(chosen, dim=128) == "static:wordllama-128"


def test_a_memory_keeps_the_model_it_was_made_with(chosen, origin):
    with Memory(settings=chosen, dim=128) as memory:
        memory.add("a note")
    card = replace(find_card("minilm", known_models()), dim=64, files=FILES)
    pull_model(card, chosen.models.path, [FolderSource(origin)])
    assert name_in(chosen) == "static:wordllama-128"
    with pytest.raises(SpaceMismatchError, match="static:wordllama-128"):
        Memory(settings=chosen, model="minilm")


@pytest.mark.parametrize(
    ("first", "recorded"),
    [
        ({"model": "minilm", "precision": "float32"}, "onnx:all-MiniLM-L6-v2@float32"),
        ({"model": "minilm", "dim": 32}, "onnx:all-MiniLM-L6-v2@int8:32"),
        ({"model": "onnx:minilm@float32"}, "onnx:all-MiniLM-L6-v2@float32"),
        ({"model": "onnx:minilm@float32:32"}, "onnx:all-MiniLM-L6-v2@float32:32"),
        ({"model": "all-MiniLM-L6-v2"}, "onnx:all-MiniLM-L6-v2@int8"),
    ],
    ids=["precision", "size", "in-the-name", "both-in-the-name", "full-name"],
)
def test_precision_and_size_are_kept_with_the_memory(chosen, stand_in, first, recorded):
    assert name_in(chosen, **first) == recorded
    assert name_in(chosen) == recorded
    assert name_in(chosen, model=recorded) == recorded


def test_a_setting_that_contradicts_the_memory_is_refused(chosen, stand_in):
    name_in(chosen, precision="float32")
    with pytest.raises(SpaceMismatchError, match=r"@float32, not of .*@int8"):
        name_in(chosen, precision="int8")


@pytest.mark.parametrize("model", ["static", "static:wordllama-128", "wordllama-256", "ollama:all-minilm"])
def test_a_precision_asked_of_a_model_that_has_none_is_refused_and_not_ignored(chosen, model):
    asked = chosen.with_values({"embedding.model": model, "embedding.precision": "int8"})
    with pytest.raises(ConfigError, match=r"argument: \S+ has no precision to choose: leave embedding.precision out"):
        choose_embedder(asked)
    choose_embedder(asked.with_values({"embedding.precision": "none"})).close()


def test_a_precision_waits_for_a_model_that_has_one_where_none_was_named(chosen):
    assert name_in(chosen, precision="int8") == "static:wordllama-256"


def test_a_folder_is_a_model(chosen, origin, tmp_path, monkeypatch):
    expected = OnnxEmbedder(origin).fingerprint
    assert choose_embedder(chosen.with_values({"embedding.model": f"onnx:{origin}"})).fingerprint == expected
    assert name_in(chosen, model=str(origin)) == f"onnx:{origin}@float32"
    assert name_in(chosen) == f"onnx:{origin}@float32"
    monkeypatch.chdir(origin.parent)
    assert choose_embedder(chosen.with_values({"embedding.model": f"./{origin.name}"})).fingerprint == expected
    with pytest.raises(EmbedderError, match="no model folder"):
        choose_embedder(chosen.with_values({"embedding.model": f"{origin}/absent"}))


def test_nothing_is_begun_with_a_folder_that_holds_half_of_the_weights(chosen, origin, tmp_path):
    folder = tmp_path / "half"
    shutil.copytree(origin, folder)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for size in (len(whole) // 2, 100, 1, 0):
        weights.write_bytes(whole[:size])
        with pytest.raises(EmbedderError, match=r"model\.safetensors"):
            Memory(settings=chosen, model=str(folder))
        assert not chosen.store.path.exists()


def test_a_folder_whose_files_have_changed_is_told_from_another_model(chosen, origin, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(origin, folder)
    name_in(chosen, model=str(folder))
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "q: "}}')
    with pytest.raises(SpaceMismatchError, match=r"not of this onnx:.* \(other files, prompts or options\)"):
        name_in(chosen)


def test_a_note_that_has_no_vector_yet_is_told_with_the_reason(chosen, origin, tmp_path, caplog):
    folder = tmp_path / "mine"
    shutil.copytree(origin, folder)
    (folder / "tokenizer.json").write_text("{")
    with Memory(settings=chosen, model=str(folder)) as memory:
        memory.add(["one", "two"])
        assert memory.status()["store"]["documents"]["pending"] == 2
    assert "2 notes are stored without a vector yet" in caplog.text
    assert "tokenizer.json" in caplog.text


def test_a_model_that_was_not_pulled_is_an_error_with_the_command(chosen):
    with pytest.raises(EmbedderError, match=r"not been pulled yet. Get it with: omnimemory models pull minilm"):
        Memory(settings=chosen, model="minilm")
    with pytest.raises(ConfigError, match="no embedding model 'minlm'"):
        Memory(settings=chosen, model="minlm")
    for name in ("static:", "static:nonsense", "static:wordllama"):
        with pytest.raises(ConfigError, match="no embedding model 'static:"):
            Memory(settings=chosen, model=name)
    assert not chosen.store.path.exists()


def test_a_memory_whose_model_is_gone_answers_by_keywords_and_keeps_what_is_added(chosen, stand_in, origin):
    with Memory(settings=chosen) as memory:
        memory.add("docker list the file")
    remove_model(chosen.models.path, stand_in)
    with Memory(settings=chosen) as memory:
        found = memory.search("docker")
        assert [hit.text for hit in found] == ["docker list the file"]
        assert "omnimemory models pull all-MiniLM-L6-v2" in found.degraded
        memory.add("who wrote the line")
        assert memory.status()["store"]["documents"]["pending"] == 1
        with pytest.raises(EmbedderError, match="not been pulled"):
            memory.embeddings.embed_text("x")
    pull_model(stand_in.card, chosen.models.path, [FolderSource(origin)])
    with Memory(settings=chosen) as memory:
        memory.add("undo")
        assert memory.status()["store"]["documents"]["pending"] == 0


def test_a_memory_of_an_embedder_that_a_program_brought_says_whose_it_is(chosen):
    class Own(StaticEmbedder):
        name = "own:thing"
        fingerprint = "ab" * 16

    with Memory(settings=chosen, embedder=Own()) as memory:
        memory.add("a note")
    with pytest.raises(SpaceMismatchError, match="own:thing"):
        Memory(settings=chosen)


def test_the_recorded_space_is_read_from_the_log_of_a_store_in_use_too(chosen):
    assert recorded_space(chosen.store.path) is None
    with Memory(settings=chosen, dim=64) as memory:
        inside = recorded_space(chosen.store.path)
        assert (inside.model, inside.dim) == ("static:wordllama-64", 64)
        assert inside.fingerprint == memory.embeddings.embedder.fingerprint
    assert recorded_space(chosen.store.path) == inside
    before = (chosen.store.path / "catalog.sqlite3").read_bytes()
    names = sorted(path.name for path in chosen.store.path.iterdir())
    recorded_space(chosen.store.path)
    assert (chosen.store.path / "catalog.sqlite3").read_bytes() == before
    assert sorted(path.name for path in chosen.store.path.iterdir()) == names


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_store_that_cannot_be_read_has_no_recorded_space(tmp_path, content):
    (tmp_path / "catalog.sqlite3").write_bytes(content)
    assert recorded_space(tmp_path) is None
    assert recorded_space(tmp_path / "a\0b") is None


def test_keywords_are_searched_without_a_model_runtime(chosen, stand_in):
    script = (
        "import sys\nfrom omnimemory import Memory, Settings\n"
        f"given = {{'models.path': {str(chosen.models.path)!r}, 'store.path': {str(chosen.store.path)!r}}}\n"
        "with Memory(settings=Settings().with_values(given)) as memory:\n"
        "    assert memory.embeddings.embedder.name.startswith('onnx:'), memory.embeddings.embedder.name\n"
        "    memory.search('anything', mode='keyword')\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"onnxruntime", "tokenizers", "huggingface_hub", "tomllib"} & set(done.stdout.split())


def test_weights_of_a_hybrid_search_go_by_the_model():
    assert vector_weight("static:wordllama-64", "commands") == VECTOR_WEIGHTS["static"]["commands"]
    assert vector_weight("onnx:all-MiniLM-L6-v2@int8:256", "commands") == 0.8
    assert vector_weight("onnx:all-MiniLM-L6-v2@float32", "documents") == 0.7
    assert vector_weight("own:thing", "documents") == 0.5
