"""Markdown and reStructuredText: headings, front matter, and no harm from repetition."""

from __future__ import annotations

import pytest
from format_cases import outline, parsed


def test_markdown_headings_of_both_kinds():
    text = (
        "Title\n=====\n\nwords\n\n## Install ##\n\nSub\n---\n\n###### Six\n####### seven\n#nospace\n   # Indented\n"
        "    # Code\n\n#\n\n- item\n---\n\na\nb\n---\n"
    )
    document = parsed("a.md", text)
    assert outline(document) == [(1, "Title"), (2, "Install"), (2, "Sub"), (6, "Six"), (1, "Indented"), (2, "b")]
    assert document.text == text


def test_markdown_headings_are_not_looked_for_in_code():
    text = (
        "# A\n```sh\n# comment\n```\n## B\n~~~~\n# no\n~~~\n# no\n~~~~\n"
        "### C\n````\n```\n# no\n````\n# D\n```\n# open\n"
    )
    assert outline(parsed("a.md", text)) == [(1, "A"), (2, "B"), (3, "C"), (1, "D")]


def test_markdown_titles_are_shown_without_their_markup():
    text = "# The **bold** `code` [link](http://x/y) and ![image][ref] *em*\n"
    [heading] = parsed("a.md", text).headings
    assert heading.title == "The bold code link and image em"


def test_front_matter_gives_title_and_tags_and_no_headings():
    text = '---\ntitle: "My notes"\ntags: [a, "b c"]\n# comment\ndate: 2024-01-01\n---\n# Real\n'
    document = parsed("a.md", text)
    assert document.metadata == {"title": "My notes", "tags": ["a", "b c"]}
    assert outline(document) == [(1, "Real")]
    assert document.text == text


@pytest.mark.parametrize(
    ("front", "metadata"),
    [
        ("tags:\n  - one\n  - two\nother: x", {"tags": ["one", "two"]}),
        ("tags: one, two", {"tags": ["one", "two"]}),
        ("title: >\n  folded", {}),
        ("titles: x\nsub:\n  title: y", {}),
        ("tags:", {}),
    ],
)
def test_only_trivial_front_matter_is_understood(front, metadata):
    assert parsed("a.md", f"---\n{front}\n---\nwords\n").metadata == metadata


def test_a_rule_at_the_top_is_no_front_matter():
    assert outline(parsed("a.md", "---\n\n# A\n\nwords\n")) == [(1, "A")]


def test_markdown_with_windows_newlines():
    document = parsed("a.md", "---\r\ntitle: T\r\n---\r\n# A\r\n\r\nB\r\n---\r\n```\r\n# no\r\n```\r\n## C ##\r\n")
    assert document.metadata == {"title": "T"}
    assert outline(document) == [(1, "A"), (2, "B"), (2, "C")]


def test_rst_levels_follow_from_the_order_of_the_underlines():
    text = (
        "=====\nTitle\n=====\n\nwords\n\nPart\n====\n\n.. _label:\n\nSection\n-------\n\nPart two\n========\n\n"
        "Deep\n~~~~\n\ntoo short\n--\n\n----\n\nlong enough for docutils\n-----\n"
    )
    assert outline(parsed("a.rst", text)) == [
        *((1, "Title"), (2, "Part"), (3, "Section"), (2, "Part two"), (4, "Deep")),
        (3, "long enough for docutils"),
    ]


def test_rst_tables_lists_and_literals_are_no_headings():
    text = (
        "words\nmore\n====\n\n=====  =====\na      b\n=====  =====\n1      2\n=====  =====\n\n"
        "::\n\n  code\n  ====\n\n+---+\n| a |\n+---+\n\n....\n\n"
    )
    assert outline(parsed("a.rst", text)) == []


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["a.md", "a.rst"])
@pytest.mark.parametrize(
    "unit",
    ["# a ", "# ", "#", "=", "-", " ", "`", "```\n", "~~~a\n", "---\n", "a\n=\n", "[a](", "**", "- ", "title: ", "\n"],
)
def test_repetitive_markup_takes_no_longer(name, unit):
    body = unit * (150_000 // len(unit))
    for head in ("", "# ", "# a", "---\ntitle: a"):
        parsed(name, f"words\n{head}{body}b\n---\n")
        parsed(name, f"{head}{body}b\n---\nwords")
