"""HTML: readable text, headings in the right place, and no harm from hostile pages."""

from __future__ import annotations

import re
import resource

import pytest
from format_cases import MIB, parsed
from hypothesis import given, settings
from hypothesis import strategies as st

from omnimemory.sources.formats import SkippedError, parse
from omnimemory.sources.formats.webpage import read_html

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
        ("<nav><pre></nav><pre>a\n  b</pre>", "a\n  b"),
        ("<h2>Using C#</h2>", "Using C#"),
        ("<h1>One<h2>Two</h2>x", "One\n\nTwo\n\nx"),
        ("a\x01\x05b&#1;&#0;c, and words enough not to be binary", "ab\ufffdc, and words enough not to be binary"),
    ],
)
def test_broken_html_loses_as_little_as_can_be(body, text):
    assert parsed("a.html", f"<body>{body}").text == text


def test_a_heading_may_hold_blocks():
    document = parsed("a.html", "<h1>\n <div> <p>Big</p> title</div>\n</h1><p>x</p><h2><p>Two</h2>y")
    assert document.text == "Big\n\ntitle\n\nx\n\nTwo\n\ny"
    assert [(h.start, h.level, h.title) for h in document.headings] == [(0, 1, "Big"), (15, 2, "Two")]


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
@settings(max_examples=150, deadline=None)
def test_any_soup_of_tags_gives_clean_text_and_headings_in_it(tokens):
    try:
        document = parsed("a.html", "x" + "".join(tokens))
    except SkippedError:
        return
    assert not re.search(r"[\x00-\x08]", document.text)
    assert document.text == document.text.strip(" \n")
    for heading in document.headings:
        assert document.text.startswith(heading.title, heading.start)


_AROUND = (
    """<N>|</N>|<N class="|<N class="k">|<N class='k'>|</N class="|<N |<N/>|<Nx>|">|<|>|"|'|=| |word|<p>|<a title="""
)
_AROUND += "|<!--|-->|<title>|</title>|<script>"


@given(st.lists(st.sampled_from(_AROUND.split("|")), max_size=30), st.sampled_from(["span", "code", "em", "strong"]))
@settings(max_examples=300, deadline=None)
def test_tags_that_are_passed_over_in_haste_end_where_all_others_do(tokens, name):
    pages = [read_html("a.html", "x" + "".join(tokens).replace("N", each)) for each in (name, "abbr")]
    assert pages[0].text == pages[1].text.replace("abbr", name)
    assert pages[0].metadata.get("title", "") == pages[1].metadata.get("title", "").replace("abbr", name)
