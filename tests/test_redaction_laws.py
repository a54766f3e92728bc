"""Laws of redaction: twice is once, the rest is kept to the letter, nothing raises, the work is linear."""

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnimemory.sources.redaction import Redactor
from omnimemory.sources.redaction.command_table import built_in_table
from omnimemory.sources.redaction.command_texts import find_quoted_secrets
from omnimemory.sources.redaction.commands import find_command_secrets
from omnimemory.sources.redaction.shell_words import read_commands
from omnimemory.sources.redaction.spans import Span, locate_spans, replace_spans
from omnimemory.sources.redaction.tokens import find_text_secrets

PLACEHOLDER = re.compile(r"\[REDACTED:[a-z0-9-]+\]")

FRAGMENTS = [
    *("'", '"', "`", "$(", "${", "(", ")", "}", "\\", "\n", " ", "|", ";", "&", "<<<", "<<E\n", "E\n", ">", "#", "="),
    *("mysql -p", "curl -u ", "a:b", "--password ", "--password=", "TOKEN=", "export ", "sudo -S ", "echo x9 | su"),
    *("://", "http://u:p@h", "Bearer ", "Authorization: ", '"password":"', "eyJ", "-----BEGIN PRIVATE KEY-----"),
    *("[REDACTED:flag]", "[REDACTED:", "\x00", "\udc80", "\uffff", "é", "password ", "create user ", "identified by "),
    *("ssh h ", "-u a ", "-p ", "-H ", "sed s/", "{", "set ", "x9", "login ", "expect ", ",", "password='", "A" * 20),
    *("-", ":", "@", "ghp_", "docker ", "a=b&", 'send "', "x9Kd2mZq ", "-t ", "[a|b]", "[a|", "user ", "u:p1w2@h "),
    *("corp/u:x9Kd2mZqP ", "user%", "auth ", "-opw|-upw ", "echo x9Kd2mZq|f|", "A9f" * 10, "base64|"),
]  # fmt: skip
LINES = st.one_of(
    st.text(),
    st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4)), max_size=14).map(" ".join),
)


@settings(max_examples=150, deadline=None)
@given(LINES)
def test_redacting_twice_changes_nothing_more(text):
    for redact in (Redactor().command, Redactor().document):
        once = redact(text)
        again = redact(once.text)
        assert again.text == once.text
        assert again.counts == {}


@settings(max_examples=150, deadline=None)
@given(LINES)
def test_masking_twice_changes_nothing_more_and_keeps_what_is_redacted(text):
    stored = Redactor().command(text).text
    shown = Redactor().embeddable(stored)
    assert Redactor().embeddable(shown) == shown
    assert PLACEHOLDER.findall(shown) == PLACEHOLDER.findall(stored)


@settings(max_examples=150, deadline=None)
@given(LINES)
def test_what_is_not_replaced_is_kept_to_the_letter_and_in_order(text):
    found = Redactor().command(text)
    if not found.counts:
        assert found.text == text
    position = 0
    pieces = PLACEHOLDER.split(found.text)
    assert text.startswith(pieces[0])
    assert text.endswith(pieces[-1])
    for piece in pieces:
        position = text.index(piece, position) + len(piece)


@settings(max_examples=150, deadline=None)
@given(LINES)
def test_the_words_of_a_line_lie_inside_it_and_in_order(text):
    position = 0
    for simple in read_commands(text, 0, len(text)):
        for word in simple.words:
            assert position <= word.start <= word.inner <= word.end <= len(text)
            assert text[word.inner : word.inner + len(word.text)] == word.text
            position = word.end


ADVERSARIES = [fragment for fragment in FRAGMENTS if fragment != "A" * 20]
ADVERSARIES += [
    "a",
    "x@y:",
    "-u a -p b ",
    "mysql -pa;",
    "echo a|su|",
    "$(mysql -pa ",
    "cat <<E\na\nE\n",
    "a: b\n",
    "aA1-",
    "a,",
    'ssh h "',
    "sudo sh -c \"ssh h '",
    '\\"',
    "&&a",
    "a|b",
    "<<<a ",
    "-t x9Kd2mZq ",
]
MOST_CALLS = 150_000  # for 10,000 characters; on a usual machine 25 ms


def work_of(text: str) -> int:
    """Return how many Python functions are called to redact a text."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        Redactor().command(text)
        Redactor().document(text)
        Redactor().embeddable(text)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("fragment", ADVERSARIES, ids=ascii)
def test_a_line_of_twice_the_length_is_at_most_about_twice_the_work(fragment):
    half = fragment * (5_000 // len(fragment))
    work_of(half)  # what is read once only is not counted
    work = work_of(half + half)
    assert work <= 3 * work_of(half) + 200
    assert work <= MOST_CALLS


@pytest.mark.parametrize("fragment", ADVERSARIES, ids=ascii)
def test_no_part_of_a_line_is_found_more_often_than_its_quotes_are_deep(fragment):
    text = "password " + fragment * (5_000 // len(fragment))
    found = [*find_command_secrets(text, built_in_table()), *find_quoted_secrets(text), *find_text_secrets(text)]
    assert sum(span.end - span.start for span in found) <= 6 * len(text)


@pytest.mark.parametrize("fragment", ["TOKEN=a1 ", "-u a -p b ", "echo a|su|", "mysql -pa;", "password=a "])
@pytest.mark.parametrize("size", [500, 2_000, 8_000])
def test_quotes_in_quotes_cost_little_more_than_what_is_in_them(fragment, size):
    flat = fragment * (size // len(fragment))
    text = f"ssh h \"a 'b `c $( {flat})` ' \" "
    work_of(text)
    assert work_of(text) <= 2.5 * work_of(flat) + 2_000


def test_what_a_later_pass_finds_is_located_in_the_text_as_it_was():
    def find(text):
        first = [Span(at, at + 2, "first") for at in (1, 7) if text[at : at + 2] == "aa"]
        return first or [Span(found.start(), found.end(), "second") for found in re.finditer("bb", text)]

    text = ".aa.bb.aa..bb."
    assert locate_spans(text, find) == [
        Span(1, 3, "first"),
        Span(4, 6, "second"),
        Span(7, 9, "first"),
        Span(11, 13, "second"),
    ]
    assert replace_spans(text, find)[1] == {"first": 2, "second": 2}


def test_what_was_replaced_is_not_replaced_again_whatever_a_rule_finds():
    def everything(text):
        return [Span(0, len(text), "all")]

    assert replace_spans("secret", everything) == ("[REDACTED:all]", {"all": 1})
    assert replace_spans("[REDACTED:other]", everything) == ("[REDACTED:other]", {})


def test_overlapping_findings_become_one_replacement():
    spans = [Span(2, 6, "inner"), Span(0, 4, "first"), Span(8, 8, "empty")]
    assert replace_spans("abcdefgh", lambda text: spans if text[0] == "a" else []) == (
        "[REDACTED:first]gh",
        {"first": 1},
    )


@pytest.mark.parametrize("fragment", ADVERSARIES, ids=ascii)
def test_no_long_line_is_read_for_ever(fragment):
    text = "mysql '" + fragment * (20_000 // len(fragment))
    assert Redactor().command(text).text.startswith("mysql")
