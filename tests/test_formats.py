"""What each reader makes of a file: text, headings at the right place, metadata, and no harm from hostile input."""

from __future__ import annotations

import gzip
import json
import re
import resource

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnimemory.errors import SourceError
from omnimemory.records import Document
from omnimemory.sources.formats import SkippedError, parse, unread_kind
from omnimemory.sources.formats.source_code import read_code

MIB = 1024 * 1024


def parsed(name: str, data: bytes | str) -> Document:
    return parse(f"/x/{name}", data.encode() if isinstance(data, str) else data, max_bytes=MIB)


def outline(document: Document) -> list[tuple[int, str]]:
    """Return level and title of the headings, each of which must stand where it says it does."""
    for heading in document.headings:
        line = document.text[heading.start :].lstrip().split("\n\n", 1)[0]
        assert plain(heading.title)[:20] in plain(line), heading
    assert [heading.start for heading in document.headings] == sorted({heading.start for heading in document.headings})
    return [(heading.level, heading.title) for heading in document.headings]


def plain(text: str) -> str:
    return re.sub(r"[^\w ]", "", text)


# --- encodings ------------------------------------------------------------------------------------

FRENCH = "Où est passée la clé du café ? Déjà fermé, hélas : à bientôt, garçon.\n"
RUSSIAN = "Привет, как дела? Сегодня хорошая погода, и мы идём гулять в парк.\n"
JAPANESE = "これは日本語の文章です。今日は天気がいいので、公園に行きます。\n"

ENCODED = {
    "utf-8": (FRENCH, "utf-8", None),
    "utf-8 with a mark": (FRENCH, "utf-8-sig", None),
    "utf-16 with a mark": (FRENCH, "utf-16", "utf-16-le"),
    "utf-32 with a mark": (FRENCH, "utf-32", "utf-32-le"),
    "utf-16 without a mark": (FRENCH, "utf-16-le", "utf-16-le"),
    "utf-16 big-endian without a mark": (FRENCH, "utf-16-be", "utf-16-be"),
    "cp1252": (FRENCH, "cp1252", "cp1252"),
    "cp1251": (RUSSIAN, "cp1251", "cp1251"),
    "koi8-r": (RUSSIAN, "koi8-r", "koi8-r"),
    "shift-jis": (JAPANESE, "shift_jis", "cp932"),
}


@pytest.mark.parametrize(("text", "encoding", "recorded"), ENCODED.values(), ids=ENCODED)
@pytest.mark.parametrize("times", [1, 300])
def test_encodings_are_recognised_and_recorded(text, encoding, recorded, times):
    document = parsed("a.txt", (text * times).encode(encoding))
    assert document.text == text * times
    assert document.metadata == ({"encoding": recorded} if recorded else {})


def test_a_late_byte_in_another_encoding_is_found():
    document = parsed("a.txt", b"plain words, and many of them.\n" * 5000 + FRENCH.encode("cp1252"))
    assert document.text.endswith(FRENCH)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("a.html", '<meta charset="iso-8859-5"><p>'),
        ("a.py", "# -*- coding: iso-8859-5 -*-\nx = '"),
        ("a.xml", "<?xml version='1.0' encoding='iso-8859-5'?><p>"),
    ],
)
def test_a_declared_encoding_is_believed_where_it_fits(name, head):
    document = parsed(name, (head + RUSSIAN).encode("iso-8859-5"))
    assert RUSSIAN.strip() in document.text
    assert document.metadata["encoding"] == "iso8859-5"


@pytest.mark.parametrize("lie", ["utf-8", "unicode_escape", "rot13", "no-such-thing", "utf-7"])
def test_a_declaration_that_is_wrong_or_no_charset_is_not_believed(lie):
    document = parsed("a.txt", f"coding: {lie}\n".encode() + FRENCH.encode("cp1252"))
    assert document.metadata["encoding"] == "cp1252"


def test_latin_1_is_read_as_browsers_do():
    data = b"charset=iso-8859-1 \x93quoted\x94 text"
    assert parsed("a.txt", data).text.endswith("“quoted” text")


def test_a_few_damaged_places_are_replaced_and_counted():
    data = (JAPANESE * 20).encode()
    damaged = data[:300] + b"\xff" + data[300:600] + b"\xfe" + data[600:]
    document = parsed("a.txt", damaged)
    assert document.metadata == {"encoding_errors": 2}
    assert document.text.replace("\ufffd", "") == JAPANESE * 20


def test_a_cut_utf16_file_and_its_lone_surrogates_are_replaced():
    document = parsed("a.txt", b"\xff\xfe" + "words".encode("utf-16-le") + b"\x3d\xd8" + "more".encode("utf-16-le"))
    assert document.text == "words\ufffdmore"
    assert document.metadata == {"encoding": "utf-16-le", "encoding_errors": 1}


def test_replacement_characters_that_were_there_are_no_errors():
    assert parsed("a.txt", "kept \ufffd\n").metadata == {}


@pytest.mark.parametrize("text", ["a\r\nb\r\n", "a\rb\r", "a\n\rb\x0b\x0cc\u2028d"])
def test_newlines_are_left_as_they_are(text):
    assert parsed("a.txt", text).text == text


def test_nul_characters_far_inside_are_replaced_one_by_one():
    text = "words " * 2000 + "\0\0" + "more"
    document = parsed("a.txt", text)
    assert document.text == text.replace("\0", "\ufffd")
    assert document.metadata == {"encoding_errors": 2}


BINARY = {
    "NUL bytes": b"ab\0cd" * 100,
    "utf-16 with NUL characters": "a\0b\0c".encode("utf-16-le") + b"\0\0" * 50,
    "an ELF header": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\0\x3e\0" * 8,
    "control characters": bytes(range(1, 32)) * 40,
    "16 bit numbers": b"".join(n.to_bytes(2, "little") for n in range(1, 200)),
}


@pytest.mark.parametrize("data", BINARY.values(), ids=BINARY)
def test_binary_files_are_skipped_with_the_reason(data):
    with pytest.raises(SkippedError, match="not text"):
        parsed("a.txt", data)


# --- which reader ---------------------------------------------------------------------------------

CHOICES = {
    "notes.txt": ("words", "text", None),
    "README": ("words", "text", None),
    "LICENSE": ("words", "text", None),
    "strange.zzz": ("words", "text", None),
    "a.MD": ("# T", "markdown", None),
    "a.rst": ("words", "rst", None),
    "os.rst.txt": ("words", "rst", None),
    "a.HTM": ("<p>x", "html", None),
    "a.py": ("x = 1", "code", "python"),
    "a.tsx": ("x", "code", "typescript"),
    "Makefile": ("all:", "code", "make"),
    "Dockerfile": ("FROM x", "code", "dockerfile"),
    "CMakeLists.txt": ("project(x)", "code", "cmake"),
    "run": ("#!/usr/bin/env python3\nx", "code", "python"),
    "start": ("#!/bin/sh\nx", "code", "shell"),
    "a.json": ("{}", "code", "json"),
    "ls.1": (".TH LS 1\n.SH NAME\nls", "man", None),
    "open.3pm": (".TH O 3\n.SH NAME\nopen", "man", None),
    "app.log.1": ("just a line", "text", None),
    "libx.so.6": ("just a line", "text", None),
}


@pytest.mark.parametrize(("name", "choice"), CHOICES.items(), ids=CHOICES)
def test_the_name_chooses_the_reader(name, choice):
    text, kind, language = choice
    document = parsed(name, text)
    assert (document.format, document.metadata.get("language")) == (kind, language)


@pytest.mark.parametrize("name", ["notes.txt", "a.py", "README", "Makefile"])
def test_text_and_code_are_kept_to_the_character(name):
    text = "\n  def f():\r\n\treturn 1  \n\n\n"
    assert parsed(name, text).text == text


def test_compressed_files_are_read_by_the_rest_of_their_name():
    document = parsed("guide.md.gz", gzip.compress(b"# Title\nwords\n") + gzip.compress(b"more\n"))
    assert document.format == "markdown"
    assert document.text == "# Title\nwords\nmore\n"
    assert document.uri == "/x/guide.md.gz"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"plain words", "not gzip data"),
        (gzip.compress(b"words " * 1000)[:-9], "cut short"),
        (gzip.compress(b"words " * 1000)[:-8] + bytes(8), "damaged"),
    ],
)
def test_damaged_gzip_files_are_errors_with_the_fix(data, message):
    with pytest.raises(SourceError, match=message) as caught:
        parsed("a.txt.gz", data)
    assert not isinstance(caught.value, SkippedError)


def test_a_gzip_bomb_is_skipped_without_unpacking_it():
    bomb = gzip.compress(bytes(200 * MIB))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SkippedError, match="100 times its size"):
        parse("/x/a.txt.gz", bomb, max_bytes=1 << 30)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_names_that_hold_no_text_are_known():
    assert unread_kind("/x/a.JPG") == "an image"
    assert unread_kind("/x/a.tar.gz") == "an archive"
    assert unread_kind("/x/a.txt") is None
    assert unread_kind("/x/png") is None


# --- Markdown -------------------------------------------------------------------------------------


def test_markdown_headings_of_both_kinds():
    text = (
        "Title\n=====\n\nwords\n\n## Install ##\n\nSub\n---\n\n###### Six\n####### seven\n#nospace\n   # Indented\n"
        "    # Code\n\n#\n\n- item\n---\n\na\nb\n---\n"
    )
    document = parsed("a.md", text)
    assert outline(document) == [(1, "Title"), (2, "Install"), (2, "Sub"), (6, "Six"), (1, "Indented"), (2, "b")]
    assert document.text == text


def test_markdown_headings_are_not_looked_for_in_code():
    text = "# A\n```sh\n# comment\n```\n## B\n~~~~\n# no\n~~~\n# no\n~~~~\n### C\n````\n```\n# no\n````\n# D\n```\n# open\n"
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


# --- reStructuredText -----------------------------------------------------------------------------


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
    body = unit * (300_000 // len(unit))
    for head in ("", "# ", "# a", "---\ntitle: a"):
        parsed(name, f"words\n{head}{body}b\n---\n")
        parsed(name, f"{head}{body}b\n---\nwords")


# --- HTML -----------------------------------------------------------------------------------------

PAGE = """<!DOCTYPE html><html><head><title>The &amp; page
 title</title><style>p { color: red }</style><script>if (a < b) document.write("<p>no</p>")</script></head>
<body><header><h1>Site</h1></header><nav><ul><li>Home</li></ul></nav>
<h1 class=x>Guide<a class="headerlink" href="#guide">¶</a></h1>
<p>First <b>bold</b>   text,
 second&nbsp;line &lt;tag&gt; &#x41;.<br>After.</p>
<h2>In<em>stall</em></h2>
<ul><li><p>one</p></li><li>two<ul><li>inner</li></ul></li></ul>
<pre>def f():
    return  1
</pre>
<table><tr><th>k</th><th>v</th></tr><tr><td><p>a</p></td><td><p>b</p></td></tr></table>
<!-- a comment with <p>tags</p> --><footer>Footer</footer></body></html>"""


def test_html_becomes_readable_text_with_headings():
    document = parsed("a.html", PAGE)
    assert document.text == (
        "Guide\n\nFirst bold text, second line <tag> A.\nAfter.\n\nInstall\n\n- one\n- two\n- inner\n\n"
        "def f():\n    return  1\n\nk | v\na | b"
    )
    assert document.metadata == {"title": "The & page title"}
    assert [(h.start, h.level, h.title) for h in document.headings] == [
        (0, 1, "Guide"),
        (document.text.index("Install"), 2, "Install"),
    ]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<p>out</p><main><header>Head</header><p>in</p></main><p>out</p>", "Head\n\nin"),
        ('out<div role="main"><div>a</div><div>b</div></div>out', "a\nb"),
        ("out<article><p>in</p></article>out", "in"),
        ("<article>one</article><article>two</article>", "one\n\ntwo"),
        ("<p>out</p><main> </main>", "out"),
        ("<header>x<main>in</main></header>", "in"),
        ("<main>open <p>end", "open\n\nend"),
    ],
)
def test_html_takes_the_main_part_if_there_is_one(body, text):
    assert parsed("a.html", f"<body>{body}</body>").text == text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("a<nav>never closed <p>kept</p>", "anever closed\n\nkept"),
        ("a<script>never closed <p>no</p>", "a"),
        ("a<script src=x />b", "ab"),
        ("a<!-- never closed <p>no</p>", "a"),
        ("a<!-->b<!--->c<!-- - -- > -->d", "abcd"),
        ("a<p title=\"x > y\" data-x='<b>' class=it's>b</p>", "a\n\nb"),
        ("1 < 2 && 3 > 2 <3 <", "1 < 2 && 3 > 2 <3 <"),
        ("a<b", "a"),
        ('a<p class="never closed>b</p><p>c</p>', "a\n\nb\n\nc"),
        ("a<?php echo 1 ?>b<![CDATA[c]]>d", "abd"),
        ("<SCRIPT>no</SCRIPT><P>UP</P>", "UP"),
        ("<svg><title>no</title><style>no</style><text>no</text></svg>yes", "yes"),
        ("<h1></h1><h2> </h2><p>x</p>", "x"),
        ("<h1>One<h2>Two</h2>x", "One\n\nTwo\n\nx"),
        ("a\x01\x05b&#1;&#0;c, and words enough not to be binary", "ab\ufffdc, and words enough not to be binary"),
    ],
)
def test_broken_html_loses_as_little_as_can_be(body, text):
    assert parsed("a.html", f"<body>{body}").text == text


def test_an_html_page_without_text_is_skipped():
    with pytest.raises(SkippedError, match="no text"):
        parsed("a.html", "<html><script>x</script></html>")


HOSTILE = {
    "nested div": "<div>" * 100_000 + "deep" + "</div>" * 100_000,
    "nested lists": "<ul><li>" * 60_000 + "deep",
    "unclosed formatting": "".join(f"<b id={n}><p>" for n in range(30_000)) + "deep",
    "many attributes": "<div " + " ".join(f"a{n}=1" for n in range(80_000)) + ">deep",
    "open quotes": "deep" + '<a "' * 100_000,
    "open values": "deep" + '<a b="' * 100_000 + '">',
    "odd open values": "deep" + "<a b='" * 100_001 + "' x>",
    "open comments": "deep" + "<!--" * 100_000,
    "open brackets": "deep" + "<" * 300_000,
    "open tags": "deep" + "<a " * 150_000,
    "open navs": "<nav>" * 100_000 + "deep",
    "open titles": "deep" + "<title>" * 100_000,
    "entities": "deep" + "&" * 300_000,
    "spaces": "deep" + " " * 500_000 + "x",
    "pre": "<pre>deep" * 100_000,
    "cells": "<td>" * 200_000 + "deep",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_html_neither_hangs_nor_fills_the_memory(body):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    document = parse("/x/a.html", f"<body>{body}".encode(), max_bytes=32 * MIB)
    assert "deep" in document.text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


@given(
    st.lists(
        st.sampled_from(
            [
                *"<>/=\"'!-& ",
                "<p>",
                "</p>",
                "<h1>",
                "</h1>",
                "<pre>",
                "</pre>",
                "<main>",
                "</main>",
                "<nav>",
                "</nav>",
                "<li>",
                "<td>",
                "<!--",
                "-->",
                "<script>",
                "</script>",
                "word",
                "&lt;",
                "\n",
            ]
        ),
        max_size=40,
    )
)
@settings(max_examples=400, deadline=None)
def test_any_soup_of_tags_gives_clean_text_and_headings_in_it(tokens):
    try:
        document = parsed("a.html", "x" + "".join(tokens))
    except SkippedError:
        return
    assert not re.search(r"[\x00-\x08]", document.text)
    assert document.text == document.text.strip(" \n")
    for heading in document.headings:
        assert document.text.startswith(heading.title, heading.start)


# --- source code ----------------------------------------------------------------------------------

SOURCES = {
    "python": """
import os

@cache
def top(a):
    def inner(): pass

class A(B):
    x = 1
    async def m(self): ...
""",
    "javascript": """
export default async function load(x) {
}
const add = (a, b) => a + b;
let n = 5;
class Q {
  go() {}
}
""",
    "typescript": """
export interface Shape { a: number }
export const f: Fn = async (x: number): Promise<void> => {}
type T = 1
""",
    "go": """
func (s *Server) Run(x int) error {
}
type Server struct {
""",
    "rust": """
pub(crate) async fn go() {}
impl<T> Show for Box<T> {
    pub fn show(&self) {}
}
macro_rules! m {
""",
    "java": """
public final class A {
    private static int f(int x) {
        return g(x);
    }
}
record R(int a) {}
""",
    "c": """
#include <x.h>
static int *find(const char *name) {
    if (x) {
    }
}
int g(int);
struct node {
void
h(void)
""",
    "cpp": """
namespace a {
void Box::open(int x) const {
}
class Lid : public Box {
""",
    "ruby": """
module M
  class A < B
    def self.x?(y)
""",
    "shell": """
f() {
  echo
}
function g-h {
}
x=$(y)
""",
    "make": """
CC := gcc
all: x
\techo
build/x.o: x.c
""",
    "sql": """
CREATE TABLE users (
  id int
);
select 1;
""",
    "toml": """
[project]
name = 1
[[tool.x]]
""",
    "json": '{"a": 1}',
}
DEFINITIONS = {
    "python": [(1, "top"), (2, "inner"), (1, "A"), (2, "m")],
    "javascript": [(1, "load"), (1, "add"), (1, "Q")],
    "typescript": [(1, "Shape"), (1, "f"), (1, "T")],
    "go": [(1, "Run"), (1, "Server")],
    "rust": [(1, "go"), (1, "impl<T> Show for Box<T>"), (2, "show"), (1, "m")],
    "java": [(1, "A"), (2, "f"), (1, "R")],
    "c": [(1, "find"), (1, "node"), (1, "h")],
    "cpp": [(1, "a"), (1, "Box::open"), (1, "Lid")],
    "ruby": [(1, "M"), (2, "A"), (3, "self.x?")],
    "shell": [(1, "f"), (1, "g-h")],
    "make": [(1, "all"), (1, "build/x.o")],
    "sql": [(1, "CREATE TABLE users")],
    "toml": [(1, "project"), (1, "tool.x")],
    "json": [],
}


@pytest.mark.parametrize(("language", "text"), SOURCES.items(), ids=SOURCES)
def test_definitions_are_the_headings_of_source_code(language, text):
    document = read_code("/x/a", text, language)
    assert [(heading.level, heading.title) for heading in document.headings] == DEFINITIONS[language]
    assert all(document.text[h.start - 1 : h.start] in {"", "\n"} for h in document.headings)
    assert document.text == text


@pytest.mark.timeout(20)
@pytest.mark.parametrize("language", SOURCES)
@pytest.mark.parametrize(
    "unit", ["a(b,c){d}", "function ", "x = (", "int a ", "pub ", "a b c d ", " ", "public static A<B> "]
)
def test_minified_and_repetitive_source_code_takes_no_longer(language, unit):
    read_code("/x/a", unit * (400_000 // len(unit)), language)


# --- notebooks ------------------------------------------------------------------------------------


def notebook(*cells: tuple[str, str | list[str]], **metadata: object) -> str:
    rows = [{"cell_type": kind, "source": source, "outputs": [{"text": "OUTPUT"}]} for kind, source in cells]
    return json.dumps({"cells": rows, "metadata": metadata, "nbformat": 4})


def test_notebooks_give_their_cells_and_no_outputs():
    text = notebook(
        ("markdown", ["# Title\n", "words"]),
        ("code", "import os\n# not a heading"),
        ("code", ""),
        ("markdown", "## Part\nmore"),
        ("raw", "raw"),
        kernelspec={"language": "python"},
    )
    document = parsed("a.ipynb", text)
    assert document.text == "# Title\nwords\n\nimport os\n# not a heading\n\n## Part\nmore\n\nraw"
    assert outline(document) == [(1, "Title"), (2, "Part")]
    assert document.metadata == {"language": "python"}
    assert document.format == "notebook"


def test_notebooks_of_format_3_are_read_too():
    old = {
        "worksheets": [{"cells": [{"cell_type": "code", "input": ["x = 1"]}, {"cell_type": "markdown", "source": "y"}]}]
    }
    assert parsed("a.ipynb", json.dumps(old)).text == "x = 1\n\ny"


def test_lone_surrogates_and_nuls_in_a_notebook_are_replaced():
    text = '{"cells": [{"cell_type": "markdown", "source": "# a\\ud800b\\u0000c"}]}'
    document = parsed("a.ipynb", text)
    assert document.text == "# a\ufffdb\ufffdc"
    assert document.headings[0].title == "a\ufffdb\ufffdc"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"cells": [\n{"x": }]}', r"a\.ipynb is not valid JSON at line 2, column 7"),
        ("[" * 200_000, "nested too deeply"),
        ("[1, 2]", "no list of cells"),
        ('{"cells": 5}', "no list of cells"),
        ('{"cells": [], "x": ' + "9" * 5000 + "}", "oversized"),
    ],
)
def test_what_is_no_notebook_is_an_error_that_names_the_place(text, message):
    with pytest.raises(SourceError, match=message) as caught:
        parsed("a.ipynb", text)
    assert not isinstance(caught.value, SkippedError)


@pytest.mark.parametrize("cells", ['[1, null, "x"]', '[{"source": 5}]', '[{"source": [1, null]}]', "[]"])
def test_a_notebook_without_text_is_skipped(cells):
    with pytest.raises(SkippedError, match="no text"):
        parsed("a.ipynb", f'{{"cells": {cells}, "metadata": 7}}')


# --- manual pages ---------------------------------------------------------------------------------

MAN = r"""'\" t
.\" a comment
.de Vb
.ft CW
..
.TH LS 1 "May 2024"
.SH NAME
ls \- list \fBdirectory\fR contents
.SH "SEE ALSO"
.BR chmod (1),
.I dir
.TP
\fB\-a\fR, \fB\-\-all\fR
do not ignore
entries
.IP \(bu 2
first \(em item\&.
.SS Exit status:
.nf
  code  here
    kept
.fi
.TS
l l.
a	b
_
c	\fId\fR
.TE
.if n text
Se\*(Aqn \[u00E9]\['e] \(lqq\(rq \s-1SMALL\s0 C:\\\\x \e
"""


def test_man_pages_become_text_with_sections():
    document = parsed("ls.1", MAN)
    assert document.text == (
        "NAME\n\nls - list directory contents\n\nSEE ALSO\n\nchmod(1), dir\n\n-a, --all\ndo not ignore entries\n\n"
        "• first — item.\n\nExit status:\n\n  code  here\n    kept\n\na | b\nc | d\n\n"
        "Se'n éé “q” SMALL C:\\\\x \\"
    )
    assert document.metadata == {"title": "ls(1)"}
    assert outline(document) == [(1, "NAME"), (1, "SEE ALSO"), (2, "Exit status:")]


MDOC = """.Dd May 5, 2024
.Dt DASH 1
.Os
.Sh NAME
.Nm dash
.Nd command interpreter
.Sh SYNOPSIS
.Nm
.Op Fl ab
.Op Fl o Ar name Oo Ar more Oc
.Nm
.Fl c
.Sh DESCRIPTION
See
.Xr ksh 1 .
A
.Dq quoted word
and
.Fl Fl long Ns = Ns Ar x ,
.Bl -tag
.It Fl v
be loud
.El
.Bd -literal
int  x;
  y;
.Ed
"""


def test_mdoc_pages_become_text_with_sections():
    document = parsed("dash.1", MDOC)
    assert document.text == (
        "NAME\n\ndash — command interpreter\n\nSYNOPSIS\n\ndash [-ab] [-o name [more]]\ndash -c\n\nDESCRIPTION\n\n"
        "See ksh(1). A “quoted word” and --long=x,\n\n-v\nbe loud\n\nint  x;\n  y;"
    )
    assert document.metadata == {"title": "dash(1)"}
    assert outline(document) == [(1, "NAME"), (1, "SYNOPSIS"), (1, "DESCRIPTION")]


def test_a_man_page_that_only_refers_to_another_is_skipped():
    with pytest.raises(SkippedError, match=r"only refers to man1/ls\.1"):
        parsed("dir.1", ".so man1/ls.1\n")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit", ["\\", "\\f[", '"', "\\h'", "\\*(", "\\s", "word ", "\\[u", ".B ", '.B "', ".Op Fl ", ".It "]
)
def test_repetitive_man_pages_take_no_longer(unit):
    parsed("a.1", ".TH A 1\n.SH X\nwords\n" + unit * (300_000 // len(unit)) + "\n" + f"{unit}\n" * 20_000)
