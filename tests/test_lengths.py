"""The estimate of a text's tokens against a real tokenizer, and what is known of models by their servers' names."""

import importlib.util
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from omnimemory.embedders.lengths import MARGIN, estimate_tokens, halves
from omnimemory.embedders.served_names import known_name

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tokenizer():
    package = Path(importlib.util.find_spec("wordllama").submodule_search_locations[0])
    return Tokenizer.from_file(str(package / "tokenizers" / "l2_supercat_tokenizer_config.json"))


def test_ordinary_texts_have_hardly_ever_more_tokens_than_the_margin_allows(tokenizer):
    files = [*ROOT.glob("omnimemory/**/*.py"), *ROOT.glob("omnimemory/samples/docs/*.md"), ROOT / "README.md"]
    ratios = []
    for file in files:
        text = file.read_text()
        for start in range(0, len(text) - 1000, 1000):
            part = text[start : start + 1000]
            true = len(tokenizer.encode(part, add_special_tokens=False).ids)
            ratios.append(true / estimate_tokens(part))
    ratios.sort()
    assert len(ratios) > 300
    assert 0.7 < ratios[len(ratios) // 2] < 1.1
    assert ratios[int(0.99 * len(ratios))] <= MARGIN


@pytest.mark.parametrize(("text", "tokens"), [("", 0), (" \n", 1), ("a", 1), ("word " * 3000, 3000), ("東京", 4)])
def test_counts(text, tokens):
    assert estimate_tokens(text) == tokens


@pytest.mark.parametrize("text", ["a" * 31, "short", ""])
def test_what_is_too_short_is_not_halved(text):
    assert halves(text) == [text]


@pytest.mark.parametrize("text", ["word " * 20, "x" * 100, "a " + "x" * 98, "日" * 40])
def test_halves_join_and_are_about_half(text):
    first, second = halves(text)
    assert first + second == text
    assert abs(len(first) - len(second)) <= len(text) / 3


PASSAGES = "Represent this sentence for searching relevant passages: "
NAMES = {
    "nomic-embed-text": ("search_document: ", "search_query: "),
    "nomic-embed-text:v1.5": ("search_document: ", "search_query: "),
    "text-embedding-nomic-embed-text-v1.5": ("search_document: ", "search_query: "),
    "nomic-ai/nomic-embed-text-v1.5-GGUF": ("search_document: ", "search_query: "),
    "embeddinggemma": ("title: none | text: ", "task: search result | query: "),
    "embeddinggemma:300m": ("title: none | text: ", "task: search result | query: "),
    "text-embedding-embeddinggemma-300m": ("title: none | text: ", "task: search result | query: "),
    "mxbai-embed-large": ("", PASSAGES),
    "bge-small-en-v1.5": ("", PASSAGES),
    "BAAI/bge-large-en-v1.5": ("", PASSAGES),
    "bge-large": ("", PASSAGES),
    "bge-m3": ("", ""),
    "snowflake-arctic-embed:m": ("", PASSAGES),
    "snowflake-arctic-embed2": ("", "query: "),
    "snowflake-arctic-embed-l-v2.0": ("", "query: "),
    "all-minilm": ("", ""),
    "text-embedding-3-small": ("", ""),
}


@pytest.mark.parametrize(("name", "prompts"), NAMES.items(), ids=NAMES)
def test_prompts_are_known_by_the_names_servers_use(name, prompts):
    assert known_name(name)[:2] == prompts


def test_sizes_are_known_where_the_model_was_trained_for_them():
    assert 256 in known_name("text-embedding-3-large").dims
    assert known_name("nomic-embed-text").dims == ()
    assert known_name("my-own-model").dims == ()
