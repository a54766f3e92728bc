"""Documents made to stop, fill or lead astray whoever reads them: nothing hangs, nothing that they name is opened."""

from __future__ import annotations

import json
import os
import random

import pytest
from folder_cases import failures, make, names
from hypothesis import given
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec
from store_cases import run

from omnimemory.errors import SourceError
from omnimemory.ingest.clean_document import clean_document
from omnimemory.sources.chunking import chunk
from omnimemory.sources.formats import parse
from omnimemory.sources.linear_patterns import compile_patterns
from omnimemory.sources.redaction import Redactor

MIB = 1024 * 1024

# -- rules that never end

RULES = ["*a" * 8 + "b", "*a" * 60 + "b", "?*" * 30 + "b", "[a-z]*" * 20 + "!", "**/a/" * 9 + "b", "a/**/" * 9 + "b"]
RULES += ["*" * 99 + "a*" * 20 + "b", "/**/a/*/" * 9, "!" + "*a" * 30 + "c"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("rule", RULES, ids=range(len(RULES)))
def test_a_rule_of_many_wildcards_is_as_quick_as_any(tmp_path, rule):
    deep = "a/" * 40
    make(tmp_path, "a" * 240, f"{deep}f", "kept")
    (tmp_path / ".gitignore").write_text(f"{rule}\n")
    assert names(tmp_path) == [f"{deep}f", "a" * 240, "kept"]


PIECES = ["a", "b", "*", "?", "**", "/", "**/", "/**", "[ab]", "[a-b]", "!", "\\*", "c"]
PATTERNS = st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join), min_size=1, max_size=3)
PATHS = st.lists(st.sampled_from(["a", "b", "c", "ab", "aab", "*", "bab"]), min_size=1, max_size=6).map("/".join)


@given(lines=PATTERNS, path=PATHS, folder=st.booleans())
def test_quick_rules_say_what_pathspec_s_own_say(lines, path, folder):
    valid = [line for line in lines if compile_patterns([line])[1]]
    asked = f"{path}/" if folder else path
    theirs = GitIgnoreSpec.from_lines(valid, backend="simple").check_file(asked).include
    assert compile_patterns(valid)[0].check_file(asked).include == theirs


def test_a_rule_file_of_too_many_lines_is_reported_and_not_applied(tmp_path):
    make(tmp_path, "a.txt")
    (tmp_path / ".gitignore").write_text("a.txt\n" * 10_001)
    assert names(tmp_path) == ["a.txt"]
    assert "10,001 lines, 10,000 are the most" in failures(tmp_path)[".gitignore"].reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_somebody_else_s_repository_around_the_root_decides_nothing(tmp_path):
    make(tmp_path, "open/mine/a.txt", "open/.gitignore", text="*.txt\n")
    (tmp_path / "open" / ".git").mkdir()
    assert names(tmp_path / "open" / "mine") == []
    os.chown(tmp_path / "open" / ".git", 65_534, 65_534)
    assert names(tmp_path / "open" / "mine") == ["a.txt"]


# -- texts that never end

UNITS = {
    "f.c": ["a*", "a ", "a&a*", "a::a*", "struct a", "a b(", "static ", "a<b>", "~a::", "typedef "],
    "f.java": ["public ", "a<", "a b(", "@a ", "a.", "a[] ", "x y(a{"],
    "f.js": ["const a=(", "a=>", "async ", "let a:", "export default "],
    "f.py": [" def a\n", "def a(\n"],
    "f.html": ["<a ", "<b x='", "<!--", "<script>", "</", "<title", "&#9", "<h1>", "<ul><li>", "<main>", "<td><br>"],
    "f.md": ["[", "[a](", "**a", "`", "~~~\n", "a\n===\n", "# a\n", "---\ntags:"],
    "f.rst": ["===\n", "a\n=\n", ".. x\n"],
    "f.1": [".so x\n", "\\f(", ".Oo\n", ".TS\n", "\\*[", ".if n \\{\n", '.IP "', "\\w'"],
    "f.ipynb": ["[", '{"a":', '{"cells":['],
    "f.txt": ["a=b ", "https://a:b@", "-----BEGIN", "eyJ", "aB", "\u4e00", ". ", "password=", "-u a:", "'", "<<<"],
}


@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    ("size", "combinations"), [(50_000, 0), pytest.param(50_000, 40, marks=pytest.mark.soak)], ids=["each", "combined"]
)
@pytest.mark.parametrize("name", UNITS)
def test_a_text_that_repeats_itself_is_read_redacted_and_cut(name, size, combinations):
    dice, units = random.Random(name), UNITS[name]
    cases = units + ["".join(dice.choices(units, k=dice.randint(2, 4))) for _ in range(combinations)]
    for unit in cases:
        text = (".TH a 1\n" if name == "f.1" else "") + unit * (size // len(unit))
        try:
            document, _ = clean_document(parse(name, text.encode(), max_bytes=MIB), Redactor())
        except SourceError:
            continue
        pieces = chunk(document, lambda texts: [max(1, len(each) // 4) for each in texts], size=256, overlap=32)
        assert all(document.text[piece.start : piece.end] == piece.text for piece in pieces)


# -- texts that fill the memory

BOMBS = {
    "lists": ("a.ipynb", b'{"cells":[' + b"[]," * MIB + b"[]]}", "lists and objects"),
    "objects": ("a.ipynb", b'{"cells":[' + b"{}," * MIB + b"{}]}", "lists and objects"),
    "nesting": ("a.ipynb", b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
    "digits": ("a.ipynb", b'{"cells": ' + b"9" * 5000 + b"}", "oversized"),
    "tags": ("a.html", b"<b>" * (2 * MIB), "2,000,000 are the most"),
    "lines-of-roff": ("a.1", b".TH a 1\n" + b".B\n" * (2 * MIB), "2,000,000 are the most"),
    "gzip": ("a.txt.gz", None, "over 100 times its size"),
    "gzip-in-gzip": ("a.txt.gz.gz", None, "not text"),
}


@pytest.mark.parametrize(("name", "data", "reason"), BOMBS.values(), ids=BOMBS)
def test_what_would_fill_the_memory_is_skipped_with_its_reason(name, data, reason):
    if data is None:
        import gzip

        data = gzip.compress(bytes(8 * MIB) if name == "a.txt.gz" else gzip.compress(b"text\n"))
    with pytest.raises(SourceError, match=reason):
        parse(name, data, max_bytes=32 * MIB)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("a.py", "def a\n"),
        pytest.param("a.md", "# a\n\n", marks=pytest.mark.soak),
        pytest.param("a.rst", "a \n==\n\n", marks=pytest.mark.soak),
        pytest.param("a.1", ".SH a\n", marks=pytest.mark.soak),
        pytest.param("a.html", "<h1>a</h1>", marks=pytest.mark.soak),
    ],
)
def test_headings_beyond_a_hundred_thousand_are_left_out(name, unit):
    text = (".TH a 1\n" if name == "a.1" else "") + unit * 100_050
    document = parse(name, text.encode(), max_bytes=32 * MIB)
    assert len(document.headings) == 100_000
    assert document.text.count("a") == 100_050


@pytest.mark.parametrize("number", ["9" * 5000, "0" * 5000 + "65", "x" + "f" * 5000, "99999999", "00000065"])
def test_a_number_that_is_no_character_ends_nothing(number):
    document = parse("a.html", f"<title>&#{number};</title><p>before &#{number}; after".encode(), max_bytes=MIB)
    sign = "A" if number.endswith("065") else "\ufffd"
    assert (document.text, document.metadata["title"]) == (f"before {sign} after", sign)


def test_definitions_nested_by_the_thousand_do_not_grow_the_path_of_every_chunk():
    text = "".join(f"{' ' * depth}def name_{depth}\n" for depth in range(2000))
    pieces = chunk(parse("a.py", text.encode(), max_bytes=32 * MIB), lambda texts: [len(each) // 4 for each in texts])
    assert max(len(piece.metadata["heading"]) for piece in pieces) < 12 * 20


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from omnimemory.sources.documents import Found, Limits, read, walk
from omnimemory.errors import SourceError
files = [each for each in walk(Path(sys.argv[1]), Limits()) if isinstance(each, Found)]
read(files[-1], Limits())
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 32 * 2**20, -1))
for file in files:
    try:
        print(file.path.name, len(read(file, Limits()).text))
    except SourceError as error:
        print(file.path.name, error)
"""


def test_a_document_that_takes_more_memory_than_there_is_does_not_end_the_run(tmp_path):
    make(tmp_path, "z.ipynb", text='{"cells": [{"source": "text"}]}')
    (tmp_path / "bomb.ipynb").write_text('{"cells":[' + "[]," * 900_000 + "[]]}")
    assert run(LITTLE_MEMORY, tmp_path).splitlines() == [
        "bomb.ipynb reading it takes more memory than there is; exclude it",
        "z.ipynb 4",
    ]


INGEST = """
import resource, sys
from pathlib import Path
from omnimemory.config import Settings
from omnimemory.memory import Memory
root = Path(sys.argv[1])
settings = Settings().with_values({"store.path": root / "store", "cache.path": root / "cache", "index.enabled": False})
with Memory(settings=settings) as memory:
    report = memory.ingest(root / "docs")
    found = memory.search("kangaroo", mode="keyword")
print(report.failed, len(found), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("a.txt", "a\n"),
        ("a.txt", "a"),
        ("a.txt", "http://a:b@c "),
        ("a.txt", "\u4e00"),
        ("a.md", "# a\n"),
        ("a.html", "<p>a"),
        ("a.html", "&amp;"),
        ("a.rst", "a\n==\n"),
        ("a.1", ".SH a\n"),
        ("a.py", "def a\n"),
        ("a.ipynb", '"ab",'),
    ],
)
def test_two_megabytes_of_nothing_but_structure_fit_into_little_memory(tmp_path, name, unit):
    before, after = {"a.1": (".TH a 1\n", ""), "a.ipynb": ('{"cells":[', "1]}")}.get(name, ("", ""))
    make(tmp_path / "docs", "b.txt", text="kangaroo\n")
    (tmp_path / "docs" / name).write_text(before + unit * (2 * MIB // len(unit.encode())) + after)
    failed, found, mebibytes = map(int, run(INGEST, tmp_path).split())
    assert (failed, found) == (0, 1)
    assert mebibytes < 400


# -- texts that lead elsewhere

ELSEWHERE = {
    "page.1": ".TH A 1\n.SH NAME\n.so ../secret\n.so /{secret}\n.mso ../secret\n.cf ../secret\ntext\n",
    "reference.1": ".so ../secret\n",
    "a.rst": "Title\n=====\n\n.. include:: ../secret\n.. literalinclude:: {secret}\n.. raw:: html\n  :file: {secret}\n",
    "a.md": "# Title\n\n![x](../secret) [y](file://{secret}) <img src='../secret'>\n\n{{{{ include ../secret }}}}\n",
    "a.html": "<p>text<iframe src='file://{secret}'></iframe><!--#include file='../secret' --><link href='../secret'>"
    "<object data='../secret'></object><?xml href='{secret}'?><!DOCTYPE a [<!ENTITY x SYSTEM '{secret}'>]>&x;",
    "a.ipynb": '{{"cells": [{{"cell_type": "markdown", "source": "![x](attachment:x) ../secret", "attachments": '
    '{{"x": {{"text/plain": "../secret"}}}}}}, {{"cell_type": "code", "source": "%load {secret}"}}]}}',
    "a.tex": "\\input{{../secret}} \\include{{{secret}}}\n",
    "a.py": "exec(open('../secret').read())\n",
    "a.yaml": "!include ../secret\n--- !!python/object/apply:os.system ['touch {secret}.ran']\n",
}

WATCHED = """
import json, os, sys
from pathlib import Path
from omnimemory.config import Settings
from omnimemory.memory import Memory
root = Path(sys.argv[1])
settings = Settings().with_values(
    {"store.path": root / "store", "cache.path": root / "cache", "index.enabled": False, "documents.hidden": True}
)
seen = set()
with Memory(settings=settings) as memory:
    memory.add("warm")
    def hook(event, arguments):
        if event == "open" and not isinstance(arguments[0], int):
            seen.add(os.path.abspath(os.fsdecode(arguments[0])))
        elif event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "exec", "urllib")) and event != "exec":
            seen.add(event)
    sys.addaudithook(hook)
    report = memory.ingest(root / "docs")
    memory.add("a note", metadatas=[{"source": "../../secret", "path": str(root / "secret")}])
    memory.ingest(root / "docs")
    sources = [hit.source for hit in memory.search("note", kind="documents", k=50)]
print(json.dumps({"seen": sorted(path for path in seen if path.startswith((sys.argv[1], "so", "su", "os", "ur"))),
                  "failed": report.failed, "sources": sources}))
"""


def test_nothing_that_a_document_names_is_opened(tmp_path):
    secret, docs = tmp_path / "secret", tmp_path / "docs"
    secret.write_text("kangaroo *.py\n")
    docs.mkdir()
    for name, text in ELSEWHERE.items():
        (docs / name).write_text(text.format(secret=secret))
    (docs / ".gitignore").symlink_to(secret)
    (docs / "link.txt").symlink_to(secret)
    (docs / "folder").symlink_to(tmp_path)
    told = json.loads(run(WATCHED, tmp_path))
    opened = {path for path in told["seen"] if not path.startswith((f"{tmp_path}/store", f"{tmp_path}/cache"))}
    assert opened <= {str(docs / name) for name in (*ELSEWHERE, ".gitignore")}  # which is not opened when it is a link
    assert str(docs / "a.py") in opened
    assert told["failed"] == 1, "the rules behind the link"
    assert "../../secret" in told["sources"]
    assert b"kangaroo" not in b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
