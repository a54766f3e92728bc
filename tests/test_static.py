from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from omnimemory.embedders import pieces, static
from omnimemory.embedders.base import truncate
from omnimemory.embedders.static import STATIC_DIMS, StaticEmbedder
from omnimemory.errors import EmbedderError

ROOT = Path(__file__).resolve().parents[1]

ORDINARY = [
    "git log --oneline --graph | head -20",
    "The cache decides what is computed, never what is stored.",
    "def add(a: int, b: int) -> int:\n    return a + b\n",
    "  leading and   inner    spaces  ",
    "Grüße aus Köln; 東京タワー; Привет",
    "x",
    "mixed\ttabs\nand\r\nline ends",
    "emoji 🦄 and accents àéîõü",
    "tokens of the model <s> in the text </s>",
    "a long text of many words " * 1_000 + "and then about cats and dogs at the beach " * 300,
]


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TOKENIZERS_PARALLELISM", None)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("dim", STATIC_DIMS)
def test_vectors_are_those_of_wordllama(tmp_path, dim):
    texts, theirs = tmp_path / "texts.npy", tmp_path / "theirs.npy"
    np.save(texts, np.array(ORDINARY))
    # In a process of its own, because importing wordllama reconfigures the root logger.
    script = (
        "import sys, numpy as np, wordllama\n"
        "from pathlib import Path\n"
        "from wordllama import WordLlama\n"
        "folder = Path(wordllama.__file__).parent\n"
        "model = WordLlama.load(dim=256, trunc_dim=int(sys.argv[3]), cache_dir=folder, disable_download=True)\n"
        "np.save(sys.argv[2], model.embed(np.load(sys.argv[1]).tolist(), norm=True, batch_size=1))\n"
    )
    done = run(script, str(texts), str(theirs), str(dim))
    assert done.returncode == 0, done.stderr
    ours = StaticEmbedder(dim).embed(ORDINARY, "document")
    assert (ours * np.load(theirs)).sum(axis=1).min() > 1 - 1e-5


def test_smaller_sizes_are_the_first_components_of_the_full_one():
    full = StaticEmbedder(256).embed(ORDINARY, "document")
    for dim in (128, 64):
        cut = truncate(full, dim, dims=STATIC_DIMS)
        np.testing.assert_allclose(StaticEmbedder(dim).embed(ORDINARY, "document"), cut, atol=2e-7)


def test_both_roles_give_the_same_vector():
    embedder = StaticEmbedder(64)
    assert np.array_equal(embedder.embed(ORDINARY, "query"), embedder.embed(ORDINARY, "document"))


@pytest.mark.parametrize("dim", [0, 100, 512, -1])
def test_sizes_the_model_was_not_trained_for_are_refused(dim):
    with pytest.raises(EmbedderError, match="choose 256, 128, 64"):
        StaticEmbedder(dim)


def test_a_missing_package_says_how_to_install_it():
    script = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Hide(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        return None if name == 'wordllama' else PathFinder.find_spec(name, path, target)\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if f is not PathFinder] + [Hide]\n"
        "from omnimemory.embedders.static import StaticEmbedder\n"
        "from omnimemory.errors import EmbedderError\n"
        "try:\n"
        "    StaticEmbedder().embed(['x'], 'query')\n"
        "except EmbedderError as error:\n"
        "    print(error)\n"
    )
    done = run(script)
    assert "pip install" in done.stdout, done.stderr
    assert "wordllama" in done.stdout


@pytest.fixture
def package(tmp_path):
    source = static._installed_package()
    for name in (static._WEIGHTS, static._TOKENIZER):
        (tmp_path / name).parent.mkdir()
        shutil.copyfile(source / name, tmp_path / name)
    return tmp_path


def test_the_files_may_be_elsewhere(package):
    elsewhere = StaticEmbedder(package=package).embed(ORDINARY, "document")
    assert np.array_equal(elsewhere, StaticEmbedder().embed(ORDINARY, "document"))


@pytest.mark.parametrize("name", [static._WEIGHTS, static._TOKENIZER], ids=["weights", "tokenizer"])
@pytest.mark.parametrize("damage", ["one-byte", "truncated", "empty", "missing", "folder"])
def test_damaged_files_are_refused_with_the_fix(package, name, damage):
    path = package / name
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "one-byte":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "truncated":
        path.write_bytes(data[:-1])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "folder":
        path.mkdir()
    embedder = StaticEmbedder(package=package)
    with pytest.raises(EmbedderError, match="pip install"):
        embedder.embed(["text"], "document")
    assert not embedder.loaded


def test_loading_imports_neither_wordllama_nor_requests():
    script = (
        "import sys\n"
        "from omnimemory.embedders.static import StaticEmbedder\n"
        "assert 'tokenizers' not in sys.modules\n"
        "StaticEmbedder().embed(['x'], 'query')\n"
        "print(sorted({'wordllama', 'requests', 'httpx', 'chromadb', 'safetensors'} & set(sys.modules)))\n"
    )
    done = run(script)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_embeds_and_says_nothing():
    script = (
        "import os\n"
        "from omnimemory.embedders.static import StaticEmbedder\n"
        "embedder = StaticEmbedder(64)\n"
        "texts = [f'text number {i}' for i in range(2000)]\n"
        "here = embedder.embed(texts, 'document').tobytes()\n"
        "for _ in range(2):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        print('child', os.environ['TOKENIZERS_PARALLELISM'], flush=True)\n"
        "        os._exit(0 if embedder.embed(texts, 'document').tobytes() == here else 3)\n"
        "    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "    print('parent', code, os.environ.get('TOKENIZERS_PARALLELISM'), flush=True)\n"
    )
    done = run(script)
    assert (done.stdout, done.stderr) == ("child false\nparent 0 None\n" * 2, "")


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("", [0]),
        ("short", [5]),
        ("a" * 8192, [8192]),
        ("a" * 8193, [8192, 1]),
        ("a" * 8192 + " b", [8192, 1]),
        ("a" * 8000 + " " + "b" * 8000, [8000, 8000]),
        ("a" * 8000 + "\n" + "b" * 8000, [8000, 8001]),
        (" " * 20_000, [8192, 8192, 3614]),
        (" " + "a" * 9000, [8192, 809]),
    ],
    ids=[
        "empty",
        "short",
        "exact",
        "one-over",
        "space-at-limit",
        "at-space",
        "at-line-end",
        "only-spaces",
        "leading-space",
    ],
)
def test_long_texts_are_cut_at_spaces(text, sizes):
    assert [len(piece) for piece in pieces._pieces(text)] == sizes


def test_cutting_a_long_text_loses_no_word():
    words = [f"w{number}" for number in range(20_000)]
    cut = pieces._pieces(" ".join(words))
    assert max(map(len, cut)) <= 8192
    assert " ".join(cut).split() == words


def test_counts_are_those_of_the_whole_text_however_it_is_cut():
    embedder = StaticEmbedder(64)
    sentence = "one more sentence of ordinary words "
    many, few = embedder.count_tokens([sentence * 3_000, sentence * 3])
    per_sentence = (few - 1) / 3
    assert many - 1 == pytest.approx(per_sentence * 3_000, abs=1)
