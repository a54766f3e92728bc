"""The laws of chunking: nothing lost, nothing too long, the same again, and edits that stay local."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from omnimemory.errors import ConfigError
from omnimemory.records import Chunk, Document, Heading
from omnimemory.sources.chunking import chunk
from omnimemory.sources.formats import parse


def words(texts: Sequence[str]) -> list[int]:
    return [len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]


def characters(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


def quarters(texts: Sequence[str]) -> list[int]:
    return [-(-len(text.encode()) // 4) for text in texts]


def nothing(texts: Sequence[str]) -> list[int]:
    return [0] * len(texts)


COUNTERS = {"words": words, "characters": characters, "quarters": quarters, "nothing": nothing}


def check_laws(document: Document, chunks: list[Chunk], count, size: int) -> None:
    text = document.text
    covered = 0
    for piece in chunks:
        assert text[piece.start : piece.end] == piece.text
        assert piece.text == piece.text.strip() != ""
        assert not text[covered : piece.start].strip(), "text was lost"
        assert piece.end > covered, "a chunk adds nothing"
        covered = piece.end
    assert not text[covered:].strip(), "the end was lost"
    counts = count([piece.text for piece in chunks])
    assert all(tokens <= size or len(piece.text) == 1 for tokens, piece in zip(counts, chunks, strict=True))


def markdown(text: str) -> Document:
    return parse("/x/a.md", text.encode(), max_bytes=1 << 25)


def prose(seed: int, low: int, high: int) -> str:
    """Return a paragraph of sentences made of ``low`` to ``high`` words."""
    dice = random.Random(seed)
    left = dice.randint(low, high)
    sentences = []
    while left > 0:
        length = min(left, dice.randint(4, 20))
        said = ["".join(dice.choices("abcdefghijklmnop", k=dice.randint(2, 9))) for _ in range(length)]
        sentences.append(" ".join(said).capitalize() + ".")
        left -= length
    return " ".join(sentences)


def texts_of(paragraphs: Sequence[str], **options: int) -> Counter[str]:
    document = Document("/x/a.txt", "\n\n".join(paragraphs))
    return Counter(piece.text for piece in chunk(document, words, **options))


# --- laws -----------------------------------------------------------------------------------------

WHITE = st.sampled_from([" ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "   ", "\n \n", "\r", "\u2028", "\x1f", " " * 300])
BITS = st.one_of(
    WHITE,
    st.sampled_from(
        ["# H\n", "## Sub\n", "- item", "1. x", "```\n", "end. ", "。", "漢字", "a,", "x;y{z}", "\U0001f600", "|"]
    ),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40),
    st.integers(1, 200).map(lambda length: "w" * length),
)
TEXTS = st.lists(BITS, max_size=60).map("".join)


@given(text=TEXTS, size=st.integers(16, 80), share=st.floats(0, 0.49), counter=st.sampled_from(sorted(COUNTERS)),
       kind=st.sampled_from(["text", "markdown", "code"]))  # fmt: skip
@example(text="a" * 5000, size=16, share=0.4, counter="characters", kind="text")
@example(text="## Sub\n 00000end. ", size=16, share=0.0, counter="characters", kind="code")
@example(text="。      ## Sub\n# H\n", size=16, share=0.0, counter="characters", kind="text")
@example(text="", size=16, share=0.0, counter="words", kind="text")
@settings(max_examples=150, deadline=None)
def test_chunks_cover_the_text_exactly_and_are_never_too_long(text, size, share, counter, kind):
    count = COUNTERS[counter]
    headings = tuple(Heading(match.start(), len(match[1]), "H") for match in re.finditer(r"(#+) ", text))
    document = Document("/x/a", text, kind, headings)
    chunks = chunk(document, count, size=size, overlap=int(size * share))
    check_laws(document, chunks, count, size)
    assert chunk(document, count, size=size, overlap=int(size * share)) == chunks


@pytest.mark.parametrize("size", [16, 64, 256])
@pytest.mark.parametrize("overlap", [0, 7])
@pytest.mark.parametrize("counter", COUNTERS)
def test_long_prose_keeps_the_laws(size, overlap, counter):
    document = Document("/x/a", "\n\n".join(prose(seed, 1, 400) for seed in range(60)))
    chunks = chunk(document, COUNTERS[counter], size=size, overlap=overlap)
    check_laws(document, chunks, COUNTERS[counter], size)


def test_texts_that_grow_when_joined_are_counted_again():
    def dear_newlines(texts: Sequence[str]) -> list[int]:
        return [tokens + 2 * text.count("\n") for tokens, text in zip(words(texts), texts, strict=True)]

    document = Document("/x/a", "\n\n".join(prose(seed, 5, 5) for seed in range(2000)))
    check_laws(document, chunk(document, dear_newlines), dear_newlines, 256)


def test_a_chunk_of_a_chunk_is_itself():
    document = Document("/x/a", "\n\n".join(prose(seed, 10, 120) for seed in range(50)))
    for piece in chunk(document, words):
        assert [again.text for again in chunk(Document("/x/b", piece.text), words, overlap=0)] == [piece.text]


def test_the_tokenizer_of_the_default_model_is_never_exceeded():
    tokenizers = pytest.importorskip("tokenizers")
    pytest.importorskip("wordllama")
    path = resources.files("wordllama") / "tokenizers" / "l2_supercat_tokenizer_config.json"
    tokenizer = tokenizers.Tokenizer.from_file(str(path))

    def count(texts: Sequence[str]) -> list[int]:
        return [len(each) for each in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    parts = [prose(seed, 5, 300) for seed in range(40)]
    parts += ["  漢字かな交じり文。" * 60, "x=[1,2,{}];" * 150, "\U0001f600" * 300, "a b\n" * 300, "f()\n\n\n\n" * 90]
    for kind in ("text", "code"):
        document = Document("/x/a", "\n\n".join(parts), kind)
        chunks = chunk(document, count)
        check_laws(document, chunks, count, 256)
        mean = sum(count([piece.text for piece in chunks])) / len(chunks)
        assert mean > 256 / 2, "chunks are too small to be worth their row"


# --- edits stay local -----------------------------------------------------------------------------

EDITS = {
    "replace": lambda rows, at, new: [*rows[:at], new, *rows[at + 1 :]],
    "insert": lambda rows, at, new: [*rows[:at], new, *rows[at:]],
    "delete": lambda rows, at, _: [*rows[:at], *rows[at + 1 :]],
    "append a word": lambda rows, at, _: [*rows[:at], f"{rows[at]} indeed.", *rows[at + 1 :]],
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("seed", range(15))
def test_an_edit_of_one_paragraph_in_250_changes_at_most_four_chunks(edit, seed):
    paragraphs = [prose(1000 * seed + number, 30, 110) for number in range(250)]
    at = random.Random(seed).randrange(250)
    before = texts_of(paragraphs)
    after = texts_of(EDITS[edit](paragraphs, at, prose(-seed - 1, 30, 110)))
    assert sum((after - before).values()) <= 4
    assert sum((before - after).values()) <= 4
    assert sum(before.values()) > 60


@pytest.mark.parametrize(
    ("low", "high", "size", "overlap"), [(5, 15, 256, 32), (60, 300, 256, 32), (30, 110, 128, 16), (30, 110, 512, 0)]
)
def test_on_average_an_edit_changes_about_two_chunks(low, high, size, overlap):
    changed = []
    for seed in range(20):
        paragraphs = [prose(1000 * seed + number, low, high) for number in range(120)]
        at = random.Random(seed).randrange(120)
        before = texts_of(paragraphs, size=size, overlap=overlap)
        after = texts_of(EDITS["insert"](paragraphs, at, prose(-seed - 1, low, high)), size=size, overlap=overlap)
        changed.append(sum((after - before).values()))
    assert sum(changed) / len(changed) < 3
    assert max(changed) <= 8


def test_an_edit_in_a_table_of_even_rows_stays_local():
    rows = [f"| {number:05d} | {random.Random(number).randrange(10**6):06d} |" for number in range(3000)]
    before = texts_of(["\n".join(rows)])
    after = texts_of(["\n".join(EDITS["insert"](rows, 1500, "| new | row |"))])
    assert sum((after - before).values()) <= 6
    assert sum(before.values()) > 50


def test_moved_sections_keep_their_chunks():
    sections = [f"# S{n}\n\n" + "\n\n".join(prose(100 * n + k, 40, 90) for k in range(6)) for n in range(12)]
    first = Counter(piece.text for piece in chunk(markdown("\n\n".join(sections)), words))
    second = Counter(piece.text for piece in chunk(markdown("\n\n".join([*sections[6:], *sections[:6]])), words))
    assert sum((second - first).values()) <= 2


# --- where it cuts --------------------------------------------------------------------------------


def test_a_short_text_is_one_chunk():
    [piece] = chunk(Document("/x/a", "\n  A few words.\n\nAnd more.\n"), words)
    assert piece == Chunk("A few words.\n\nAnd more.", 3, 26, {})


@pytest.mark.parametrize("text", ["", " ", "\n\n\t\r\n", "\u3000"])
def test_a_text_without_words_has_no_chunks(text):
    assert chunk(Document("/x/a", text), words) == []


def test_headings_begin_chunks_and_are_their_path():
    text = (
        f"{prose(1, 80, 80)}\n\n# Guide\n\n{prose(2, 80, 80)}\n\n## Install\n\n{prose(3, 80, 80)}\n\n"
        f"{prose(4, 200, 200)}\n\n### Deep\n\n{prose(5, 80, 80)}\n\n## Use\n\n{prose(6, 80, 80)}\n\n"
        f"# End\n\n{prose(7, 80, 80)}"
    )
    chunks = chunk(markdown(text), words)
    assert [(piece.metadata.get("heading"), piece.text.split("\n")[0][:10]) for piece in chunks] == [
        (None, text[:10]),
        ("Guide", "# Guide"),
        ("Guide > Install", "## Install"),
        ("Guide > Install", chunks[3].text[:10]),
        ("Guide > Install > Deep", "### Deep"),
        ("Guide > Use", "## Use"),
        ("End", "# End"),
    ]


def test_small_sections_share_a_chunk():
    text = "\n\n".join(f"## Part {number}\n\nA short line." for number in range(8))
    assert len(chunk(markdown(text), words)) == 1


def test_a_heading_stays_with_its_text():
    text = "\n\n".join(f"## Part {number}\n\n{prose(number, 150, 210)}" for number in range(40))
    for piece in chunk(markdown(text), words):
        assert not re.search(r"## Part \d+$", piece.text)


def test_paragraphs_are_kept_whole_where_they_fit():
    paragraphs = [prose(number, 100, 200) for number in range(40)]
    for piece in chunk(Document("/x/a", "\n\n".join(paragraphs)), words, overlap=0):
        assert all(part in paragraphs for part in piece.text.split("\n\n"))


def test_long_paragraphs_are_cut_between_sentences():
    text = prose(3, 3000, 3000)
    for piece in chunk(Document("/x/a", text), words, overlap=0)[:-1]:
        assert piece.text.endswith(".")


def test_unequal_paragraphs_are_parted_where_they_meet():
    paragraphs = [prose(1, 190, 190), prose(2, 50, 50)]
    chunks = chunk(Document("/x/a", "\n\n".join(paragraphs)), words)
    assert [piece.text for piece in chunks[:1]] == paragraphs[:1]
    assert chunks[1].text.endswith(paragraphs[1])
    assert len(chunks) == 2


def test_long_blocks_of_code_are_cut_between_lines():
    text = "".join(f"x{n} = f({n})  # A note. And more. Really!\n" for n in range(300))
    chunks = chunk(Document("/x/a", text, "code"), words, overlap=0)
    assert len(chunks) > 5
    assert all(re.match(r"x\d+ = ", piece.text) for piece in chunks)


def test_code_is_cut_between_definitions():
    functions = [f"def f{n}(x):\n" + "".join(f"    x = x + {n} * {k}\n\n" for k in range(12)) for n in range(30)]
    document = parse("/x/a.py", "\n\n".join(functions).encode(), max_bytes=1 << 20)
    chunks = chunk(document, words)
    assert all(piece.text.startswith("def f") for piece in chunks)
    assert chunks[3].metadata["heading"] == "f" + re.match(r"def f(\d+)", chunks[3].text)[1]


def test_fenced_code_is_kept_whole_where_it_fits():
    fence = "```python\n" + "\n\n".join(f"x = {n}" for n in range(25)) + "\n```"
    text = "\n\n".join(f"{prose(n, 60, 100)}\n\n{fence}" for n in range(30))
    chunks = chunk(markdown(text), words, overlap=0)
    whole = sum(piece.text.count(fence) for piece in chunks)
    assert whole >= 27


def test_overlap_repeats_what_stands_before_from_a_natural_place():
    text = "\n\n".join(prose(number, 40, 90) for number in range(60))
    chunks = chunk(Document("/x/a", text), words, size=128, overlap=24)
    shared = [(before.end - after.start, after.start) for before, after in pairwise(chunks)]
    assert sum(1 for length, _ in shared if length > 0) > 0.9 * len(shared)
    for length, start in shared:
        assert words([text[start : start + max(0, length)]])[0] <= 24
        assert start == 0 or text[start - 1].isspace()


def test_overlap_is_counted_where_the_text_is_denser_than_before():
    paragraph = " ".join(["encyclopaedically" * 2] * 50 + ["a"] * 60)
    text = "\n\n".join([paragraph] * 20)
    chunks = chunk(Document("/x/a", text), words, size=256, overlap=24)
    shared = [text[after.start : before.end] for before, after in pairwise(chunks) if after.start < before.end]
    assert len(shared) > 10
    assert max(words(shared)) <= 24


def test_overlap_never_reaches_over_a_heading():
    text = "\n\n".join(f"# Part {number}\n\n{prose(number, 50, 300)}" for number in range(40))
    chunks = chunk(markdown(text), words, size=128, overlap=32)
    for before, after in pairwise(chunks):
        assert "# Part" not in after.text or after.text.startswith("# Part") or before.end <= after.start


def test_without_overlap_chunks_share_nothing():
    text = "\n\n".join(prose(number, 40, 90) for number in range(60))
    chunks = chunk(Document("/x/a", text), words, overlap=0)
    assert all(before.end <= after.start for before, after in pairwise(chunks))


# --- bad options, hostile texts -------------------------------------------------------------------


@pytest.mark.parametrize(("size", "overlap"), [(15, 0), (0, 0), (256, 128), (256, 300), (16, 8), (256, -1)])
def test_impossible_settings_are_errors_with_the_fix(size, overlap):
    with pytest.raises(ConfigError, match="set"):
        chunk(Document("/x/a", "text"), words, size=size, overlap=overlap)


def test_a_counter_that_miscounts_its_batch_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        chunk(Document("/x/a", "one\n\ntwo"), lambda texts: [1] * (len(texts) + 1))


def test_counting_takes_one_call_for_ordinary_text_and_few_for_any():
    calls = []

    def counted(texts: Sequence[str]) -> list[int]:
        calls.append(len(texts))
        return words(texts)

    chunk(Document("/x/a", "\n\n".join(prose(number, 10, 60) for number in range(300))), counted, overlap=0)
    assert len(calls) <= 2
    calls.clear()
    chunk(Document("/x/a", "\n\n".join(prose(number, 10, 900) for number in range(300))), counted)
    assert len(calls) <= 7


MEGABYTE = 1_000_000
HUGE = {
    "one word": "a" * MEGABYTE,
    "one line": prose(1, 180_000, 180_000),
    "minified code": "".join(f"function f{n}(a,b){{return a+b*{n}}};" for n in range(28_000)),
    "no spaces, Chinese": "".join(random.Random(1).choices("的一是不了人我在有他这为之", k=MEGABYTE // 3)),
    "only newlines": "\n" * MEGABYTE,
    "blanks between": "a" + " " * MEGABYTE + "b",
    "a table": "\n".join(f"| {n} | {n * n} |" for n in range(45_000)),
    "tiny paragraphs": "x\n\n" * (MEGABYTE // 3),
    "tiny items": "- x\n" * (MEGABYTE // 4),
    "dots": "." * MEGABYTE,
    "braces": "{}" * (MEGABYTE // 2),
    "fences": "```\n" * (MEGABYTE // 4),
    "headings": "# a\n" * (MEGABYTE // 8),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE)
def test_a_megabyte_of_anything_is_cut_without_trouble(text):
    document = markdown(text) if text.strip() else Document("/x/a", text)
    count = quarters
    chunks = chunk(document, count)
    check_laws(document, chunks, count, 256)
    json.dumps([piece.metadata for piece in chunks])
