"""Keyword search: what is found, that no question can break it, that what is deleted is gone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import add_chunks, chunk, delete_chunks, opened, unit_vectors

from omnimemory.records import Event
from omnimemory.storage.documents import NewChunk
from omnimemory.storage.keyword import STOP_WORDS, index_text, match_expression, search_fts

INTEGRITY = "INSERT INTO {table} ({table}) VALUES ('integrity-check')"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("keyword") / "store", index=False) as store:
        yield store


def fill(store, texts):
    """Replace everything by these texts, named by their number."""
    delete_chunks(store, [f"t{n}" for n in range(100)])
    add_chunks(store, [chunk(f"t{n}", text=text) for n, text in enumerate(texts)], unit_vectors(len(texts)))


def found(store, query, k=100):
    items = store.documents.items([row for row, _ in store.documents.keyword(query, k)])
    rows = [row for row, _ in store.documents.keyword(query, k)]
    return [items[row].text for row in rows]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        pytest.param("restart the payment service", "restarting payments", id="stems"),
        pytest.param("東京の天気予報を見る", "天気", id="Japanese, two characters inside a run"),
        pytest.param("人々の暮らし", "人々", id="Japanese iteration mark"),
        pytest.param("数据库备份脚本", "备份", id="Chinese"),
        pytest.param("数据库", "库", id="one Chinese character at the end"),
        pytest.param("数据库", "据", id="one Chinese character in the middle"),
        pytest.param("\ue0a0main", "\ue0a0main", id="a sign of an icon font"),
        pytest.param("한국어 문서를 검색합니다", "검색", id="Korean with an ending"),
        pytest.param("ที่นี่มีเอกสารภาษาไทย", "เอกสาร", id="Thai"),
        pytest.param("def getUserName(): pass", "user name", id="camelCase by its parts"),
        pytest.param("def getUserName(): pass", "getUserName", id="camelCase as it is written"),
        pytest.param("class HttpServerError", "server", id="PascalCase by its parts"),
        pytest.param("set max_batch_size = 5", "batch size", id="snake_case by its parts"),
        pytest.param("docker-compose up -d", "compose", id="kebab-case by its parts"),
        pytest.param("Straße in Köln", "STRASSE straße", id="sharp s"),
        pytest.param("Straße in Köln", "koln", id="a letter without its mark"),
        pytest.param("naive cafe", "naïve", id="a mark that the text lacks"),
        pytest.param("nai\u0308ve cafe\u0301", "naïve", id="decomposed text"),
        pytest.param("naïve", "nai\u0308ve", id="a decomposed question"),
        pytest.param("x\u0327yz", "x\u0327yz", id="a mark that has no composed form"),
        pytest.param("ΟΔΟΣ της Αθήνας", "οδος", id="Greek final sigma"),
        pytest.param("visit İstanbul", "İstanbul", id="Turkish capital i"),
        pytest.param("हिन्दी में लिखा", "हिन्दी", id="Hindi"),
        pytest.param("to be or not to be", "to be", id="only common words"),
        pytest.param("10.0.0.17 refused", "10.0.0.17", id="an address"),
        pytest.param("C++ and F#", "c++", id="signs around a letter"),
    ],
)
def test_a_text_is_found_by(store, text, query):
    fill(store, [text, "something else entirely"])
    assert found(store, query) == [text]


def test_common_words_do_not_choose_when_there_are_telling_ones(store):
    fill(store, ["how to do what you should", "deploy"])
    assert found(store, "how do I deploy?") == ["deploy"]
    assert found(store, "how do I") == ["how to do what you should"]
    assert match_expression("The Deploy of THE year") == '"Deploy" OR "year"'
    assert "deploy" not in STOP_WORDS


@pytest.mark.parametrize(
    "query",
    [
        "AND", "OR", "NOT", "a AND", "NOT b", "NEAR(a b, 2)", "NEAR", '"', '""', '"open', "'", "a*", "*", "^a", "^",
        "(", ")", "a:b", "text:", "-x", "{a b}:c", "+", "a + b", "😀", "a😀b", "a\x00b", "\x00", "\ud800", "_", "__a__",
        "\u200b", "a\u200bb", "\u0301", "½²", "\\", "%", ";--", "text) VALUES (1", "\n\t", "ﬁ", "\u0e47", "{", "}", ",",
    ],
)  # fmt: skip
def test_signs_that_mean_something_to_fts5_are_only_text(store, query):
    fill(store, ["a b c x NEAR AND NOT OR text"])
    assert found(store, query) in ([], ["a b c x NEAR AND NOT OR text"])
    assert found(store, f"{query} NEAR") == ["a b c x NEAR AND NOT OR text"]


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_question_fails(store, query):
    expression = match_expression(query)
    assert isinstance(search_fts(store.catalog, "chunks_fts", query, 5, (1.0, 2.0)), list)
    assert expression.count('"') % 2 == 0


@given(st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=60))
@settings(max_examples=60, deadline=None)
def test_every_text_is_found_by_itself_if_it_has_a_letter_or_digit(store, text):
    fill(store, [text, "zzz"])
    words = [word for word in match_expression(text).split('"')[1::2] if word.isascii()]
    assert not words or text in found(store, text)
    with store.catalog.transaction() as sql:
        sql.execute(INTEGRITY.format(table="chunks_fts"))


def test_a_question_of_a_whole_book_is_cut_to_what_fts5_takes(store):
    fill(store, ["needle in a haystack"])
    book = "needle " + " ".join(f"word{n}" for n in range(20_000))
    assert found(store, book) == ["needle in a haystack"]
    assert match_expression(book).count(" OR ") < 1000


def test_deleting_removes_the_keywords_and_leaves_the_index_sound(store):
    texts = ["alpha beta", "beta gammaDelta 天気予報", "delta"]
    fill(store, texts)
    assert set(found(store, "beta")) == set(texts[:2])
    delete_chunks(store, ["t1"])
    assert found(store, "beta") == ["alpha beta"]
    assert found(store, "天気") == []
    assert found(store, "gamma") == []
    with store.catalog.transaction() as sql:
        sql.execute(INTEGRITY.format(table="chunks_fts"))
        # Nothing of the deleted row is left in the word lists themselves.
        sql.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab (main, chunks_fts, instance)")
        rows = {row for (row,) in sql.execute("SELECT DISTINCT doc FROM temp.words")}
        sql.execute("DROP TABLE temp.words")
    assert rows == set(store.documents.rows_of(["t0", "t2"]).values())


def renamed(store, heading, text="body words"):
    stored = store.documents.stored(store.catalog.value("SELECT source_id FROM chunks WHERE chunk_id = 't0'"))["t0"]
    return stored, NewChunk("t0", text, 0, len(text), heading, {})


def test_a_new_heading_replaces_the_old_ones_keywords(store):
    fill(store, ["body words"])
    for heading in ("First chapter", "Second part", ""):
        with store.catalog.transaction() as sql:
            assert store.documents.move(sql, [renamed(store, heading)]) == 1
            sql.execute(INTEGRITY.format(table="chunks_fts"))
        assert found(store, "chapter") == (["body words"] if "chapter" in heading else [])
        assert found(store, "part") == (["body words"] if "part" in heading else [])
        assert found(store, "body") == ["body words"]


def test_a_rename_planned_before_another_process_renamed_or_deleted_the_chunk_keeps_the_index_sound(store):
    fill(store, ["body words"])
    first, second, third = renamed(store, "one"), renamed(store, "two"), renamed(store, "three")
    for change in (first, second):
        with store.catalog.transaction() as sql:
            store.documents.move(sql, [change])
    assert (found(store, "one"), found(store, "two")) == ([], ["body words"])
    delete_chunks(store, ["t0"])
    with store.catalog.transaction() as sql:
        store.documents.move(sql, [third])
        sql.execute(INTEGRITY.format(table="chunks_fts"))
    assert store.documents.keyword("three", 5) == []
    assert store.documents.keyword("body", 5) == []


def test_better_matches_come_first_and_ties_are_in_order(store):
    fill(store, ["apple pie", "apple apple apple", "banana", "apple pie"])
    assert found(store, "apple") == ["apple apple apple", "apple pie", "apple pie"]
    rows = [row for row, _ in store.documents.keyword("pie", 5)]
    assert rows == sorted(rows)
    scores = [score for _, score in store.documents.keyword("apple", 5)]
    assert scores == sorted(scores, reverse=True)
    assert found(store, "apple", k=1) == ["apple apple apple"]
    assert found(store, "apple", k=0) == []


def test_commands_are_found_by_their_parts(store):
    commands = ["git commit --amend --no-edit", "docker-compose -f docker/dev.yml up", "echo $HOME/.ssh/id_rsa"]
    with store.catalog.transaction() as sql:
        rows = store.commands.add(sql, commands, pending=True)
        source = store.documents.ensure_source(sql, "history:test", "history")
        event = Event(commands[0])
        assert store.commands.add_events(sql, source, [(b"1", rows[0], 0, event), (b"1", rows[0], 0, event)]) == 1
    for query, row in (("amend", 0), ("no edit", 0), ("dev yml", 1), ("id_rsa", 2), ("SSH", 2)):
        assert [found for found, _ in store.commands.keyword(query, 5)] == [rows[row]], query


def test_the_keywords_of_a_batch_are_written_together(tmp_path):
    """Whenever another table is written to, FTS5 writes down what it has: that took longer than all the rest."""
    seen = []
    with opened(tmp_path / "store", index=False) as store, store.catalog.transaction() as sql:
        source = store.documents.ensure_source(sql, "file:///a", "file")
        sql.set_trace_callback(seen.append)
        store.commands.add(sql, [f"command {number}" for number in range(9)], pending=True)
        store.documents.add(sql, source, [chunk(f"c{number}") for number in range(9)], pending=True)
        sql.set_trace_callback(None)
    inserts = [line.split()[2] for line in seen if line.startswith("INSERT INTO c")]
    assert inserts == ["commands"] * 9 + ["commands_fts"] * 9 + ["chunks"] * 9 + ["chunks_fts"] * 9


def test_what_is_indexed_is_the_text_and_then_the_extra_words():
    assert index_text("plain words") == "plain words"
    assert index_text("getUserName") == "getUserName get User Name"
    assert index_text("天気予報") == "天気予報 天気 気予 予報 報"
    assert index_text("") == ""
