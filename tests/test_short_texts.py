"""Short texts get the same tokens with and without the tokenizer runtime."""

import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from omnimemory.embedders.short_texts import LONGEST, ShortTextTokenizer
from omnimemory.embedders.static import StaticEmbedder

ROOT = Path(__file__).resolve().parents[1]


@cache
def both() -> tuple[ShortTextTokenizer, Tokenizer]:
    package = Path(importlib.util.find_spec("wordllama").submodule_search_locations[0])
    data = (package / "tokenizers" / "l2_supercat_tokenizer_config.json").read_bytes()
    return ShortTextTokenizer(data), Tokenizer.from_buffer(data)


WORDS = st.lists(
    st.sampled_from(
        ["undo", "the", "last", "commit", "  ", "git", "--no-verify", "naïve", "日本語", "aaaa", "é", "🙂", "\n"]
    ),
    max_size=20,
).map(" ".join)


@given(st.one_of(WORDS, st.text(max_size=LONGEST)))
@example("")
@example(" ")
@example("aaaaaaaaaaaaaaa")
@example("tar -xzf backup.tar.gz -C /srv && docker ps -a | grep shop")
def test_the_tokens_are_those_of_the_runtime(text):
    ours, theirs = both()
    found = ours.encode(text)
    if found is None:  # the test below holds how rare that is
        return
    assert found == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", ["x" * (LONGEST + 1), "a <s> b", "</s>", "<unk>", "half \ud800 pair", "a  b", " a"])
def test_long_texts_and_special_names_are_left_to_the_runtime(text):
    assert both()[0].encode(text) is None


def test_ordinary_questions_need_no_runtime():
    ours, _ = both()
    questions = [
        "undo the last commit",
        "find files larger than 100 MB",
        "how do I roll back a release?",
        "git commit --amend --no-edit",
        "docker compose up -d --build",
        "Größe eines Verzeichnisses",
    ]
    assert [question for question in questions if ours.encode(question) is None] == []


QUESTIONS = [
    "undo the last commit",
    "why did checkout go down?",
    "wer lauscht auf Port 5432",
    "日本語の文書",
    "a <s> b",
]


def test_a_question_has_the_same_vector_before_and_after_the_runtime_is_loaded():
    for question in QUESTIONS:
        cold, warm = StaticEmbedder(), StaticEmbedder()
        warm.embed(["some document " * 100], "document")
        assert np.array_equal(cold.embed([question], "query"), warm.embed([question], "query"))


def test_one_question_does_not_load_the_tokenizer_runtime():
    script = (
        "import sys\nfrom omnimemory.embedders.static import StaticEmbedder\n"
        "StaticEmbedder().embed(['undo the last commit'], 'query')\nprint('tokenizers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
