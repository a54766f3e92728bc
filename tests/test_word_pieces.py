"""Tokens word by word: those of the runtime, whatever the text."""

import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from omnimemory.embedders import word_pieces
from omnimemory.embedders.pieces import tokenise
from omnimemory.embedders.windows import WindowTokenizer
from omnimemory.embedders.word_pieces import WordPieces
from tools.tiny_encoders import write_tiny_encoder

SPECIAL = ["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]"]
PLAIN = st.text(st.characters(min_codepoint=9, max_codepoint=126), max_size=80)
MIXED = st.lists(
    st.sampled_from(
        [*SPECIAL, "word", "Words", "x1", "naïve", "中文", "\x00", "\u200b", "'s", "--no-", "\x85", "\xa0", "\u2028"]
    )
    | PLAIN
)


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    return WindowTokenizer(write_tiny_encoder(tmp_path_factory.mktemp("tiny")) / "tokenizer.json", 32)


def by_the_runtime(window, texts):
    found = [[] for _ in texts]
    for position, encoding in tokenise(window._tokenizer, texts):
        found[position] += encoding.ids
    return found


@given(st.lists(MIXED.map("".join) | MIXED.map(" ".join), max_size=5))
@example(["one two", "a" * 33, "a" * 300, "word " * 2000, "", " \t\n", "don't e-mail me@example.org [MASK] [mask]"])
@example(["two  words\r\nand\ttabs", "under_score", "CamelCase42", "\x7f", "\x0bword\x0cword", "é", "word\x00word"])
def test_tokens_are_those_of_the_runtime(window, texts):
    assert window._words is not None
    assert window._ids(texts) == by_the_runtime(window, texts)
    assert window.count(texts) == [len(ids) for ids in by_the_runtime(window, texts)]


@given(st.lists(PLAIN | MIXED.map("".join), max_size=6), st.lists(PLAIN, max_size=3), st.sampled_from(["", "query: "]))
def test_rows_are_the_same_whether_or_not_their_texts_were_read_ahead(window, texts, others, prompt):
    usual = window.rows(texts, prompt)
    window.read_ahead([*texts, *others], prompt)
    assert window.rows(texts, prompt) == usual
    assert window.rows(texts, prompt) == usual  # what was made before is used once
    assert window.rows(others, "") == window.rows(others, "")


def test_a_text_that_was_read_ahead_is_not_tokenised_again_and_what_is_never_asked_for_is_dropped(window, monkeypatch):
    asked, ids = [], window._ids
    monkeypatch.setattr(window, "_ids", lambda texts: asked.extend(texts) or ids(texts))
    window.read_ahead(["one two", "three"], "")
    window.rows(["three", "four"], "")
    assert asked == ["one two", "three", "four"]
    window.read_ahead(["five", "word " * 100_000], "")
    assert list(window._ahead) == ["five"]
    window.read_ahead([], "")
    assert window._ahead == {}


def test_most_texts_are_taken_apart_and_others_left_to_the_runtime(window):
    plain = ["git commit -m 'one two'", "", "a" * 32, "a naïve one", "\x00", "\ud800", "“word”"]
    others = ["[CLS]", "a" * 33, "word " * 2000, "中" * 33]
    assert all(ids is not None for ids in window._words.ids(plain))
    assert window._words.ids(others) == [None] * len(others)


def test_a_word_is_given_to_the_runtime_once(window):
    class Counting:
        def __init__(self):
            self.seen = []

        def get_added_tokens_decoder(self):
            return {}

        def encode_batch_fast(self, texts, *, add_special_tokens):
            self.seen += texts
            return window._tokenizer.encode_batch_fast(texts, add_special_tokens=add_special_tokens)

    counting = Counting()
    words = WordPieces(counting)
    for _ in range(3):
        words.ids(["one two one", "two words, one"])
    assert sorted(counting.seen) == [",", "one", "two", "words"]


def test_words_are_kept_up_to_a_number_also_while_others_look(window, monkeypatch):
    monkeypatch.setattr(word_pieces, "_MOST_WORDS", 50)
    words, wrong = WordPieces(window._tokenizer), []

    def look(start):
        for number in range(start, start + 300):
            texts = [f"word {number} of {number * 7}", f"the list {number % 60}"]
            wrong.extend([texts] if words.ids(texts) != by_the_runtime(window, texts) else [])

    threads = [threading.Thread(target=look, args=(start,)) for start in (0, 100, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert 0 < len(words._known) <= 50 + 3 * 8


def word_piece(normalizer, pre_tokenizer, model=None, added=()):
    tokenizer = Tokenizer(model or models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.add_tokens(list(added))
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "is_known"),
    [
        (word_piece(normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()), True),
        (word_piece(normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer()), True),
        (word_piece(normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()), False),
        (word_piece(normalizers.BertNormalizer(), pre_tokenizers.Whitespace()), False),
        (
            word_piece(normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), models.WordLevel({"a": 1})),
            False,
        ),
        (word_piece(normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), added=["git commit"]), False),
    ],
    ids=["uncased", "cased", "normalizer", "pre-tokenizer", "model", "added"],
)
def test_only_tokenizers_of_this_kind_are_taken_apart(tokenizer, is_known):
    assert (WordPieces.of(tokenizer) is not None) == is_known
