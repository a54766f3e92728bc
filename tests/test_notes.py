"""Notes added by hand: what may be their ids and metadata, and whom they must not hurt."""

import numpy as np
import pytest

from omnimemory.errors import ConfigError
from omnimemory.ingest.notes import clean_metadata

TOKEN = "ghp_" + "a1B2" * 9


def test_a_note_does_not_take_the_id_of_a_files_chunk(memory, tmp_path):
    (tmp_path / "boats.md").write_text("boats are nice")
    memory.ingest(tmp_path / "boats.md")
    hit = memory.search("boats")[0]
    with pytest.raises(ConfigError, match=r"belongs to a part of .*boats\.md"):
        memory.add(["fine", "an edited text"], ids=["mine", hit.id])
    assert memory.search("boats")[0].text == "boats are nice"
    assert not memory.search("fine", mode="keyword"), "all of a call or nothing"


def test_one_text_takes_one_id_and_one_dictionary(memory):
    assert memory.add("the first text", ids="first", metadatas={"topic": "x"}) == ["first"]
    assert memory.search("text", where={"topic": "x"})[0].id == "first"


def test_the_same_note_twice_is_one_and_other_metadata_make_another(memory):
    first = memory.add("a text", metadatas={"topic": "x"})
    assert memory.add("a text", metadatas={"topic": "x"}) == first
    assert memory.add("a text", metadatas={"topic": "y"}) != first
    assert memory.status()["store"]["documents"]["chunks"] == 2


def test_of_two_texts_with_one_id_the_later_counts(memory):
    assert memory.add(["old", "new"], ids=["a", "a"]) == ["a", "a"]
    assert [hit.text for hit in memory.search("old new", mode="keyword")] == ["new"]


def test_secrets_in_metadata_are_redacted_too(memory):
    memory.add(f"note {TOKEN}", ids="a", metadatas={"link": f"https://me:{TOKEN}@host/x", "list": [TOKEN, "b"]})
    assert TOKEN not in str(memory.store.catalog.rows("SELECT * FROM chunks"))
    assert memory.search("note")[0].metadata["list"][1] == "b"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"texts": 5}, "a text or a list"),
        ({"texts": [None]}, "Text 0"),
        ({"texts": ["a"], "ids": [5]}, "id of text 0"),
        ({"texts": ["a"], "ids": ["\ud800"]}, "id of text 0"),
        ({"texts": ["a"], "metadatas": [None]}, "a dictionary"),
        ({"texts": ["a"], "metadatas": [{"\ud800": 1}]}, "keys"),
        ({"texts": ["a"], "metadatas": [{"chroma:document": 1}]}, "keys"),
        ({"texts": ["a", "b"], "metadatas": {"x": 1}}, "2 texts came with 1 metadatas"),
    ],
    ids=lambda value: "" if isinstance(value, str) else ascii(value)[:40],
)
def test_what_cannot_be_kept_is_an_error_that_says_so(memory, arguments, says):
    with pytest.raises(ConfigError, match=says):
        memory.add(**arguments)
    assert memory.status()["store"]["documents"]["chunks"] == 0


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (np.array([1, 2]), [1, 2]),
        (np.float32(1.5), 1.5),
        (np.bool_(True), True),
        ((1, 2), [1, 2]),
        (2**70, float(2**70)),
        ({"b": 1, "a": {2}}, '{"a": "{2}", "b": 1}'),
        ([1, "a"], '[1, "a"]'),
        ([], "[]"),
        (float("inf"), None),
        (None, None),
        ("a\ud800b", "a?b"),
    ],
    ids=ascii,
)
def test_metadata_are_kept_as_they_can_be(value, kept):
    assert clean_metadata({"key": value}) == ({} if kept is None else {"key": kept})


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [nested(100_000), 10**400], ids=["too-deep", "too-large"])
def test_metadata_that_no_store_can_hold_are_an_error(value):
    with pytest.raises(ConfigError, match="'key' cannot be stored"):
        clean_metadata({"key": value})
