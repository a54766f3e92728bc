"""Which reader a file gets, and compressed files."""

from __future__ import annotations

import gzip
import resource

import pytest
from format_cases import MIB, parsed

from omnimemory.errors import SourceError
from omnimemory.sources.formats import SkippedError, parse, unread_kind

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
    ids=["plain", "cut-short", "damaged"],  # the data hold the time
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
