"""Nothing stored can control a terminal, and what is printed stays readable."""

import io
import json
import os
import sys
import unicodedata
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.cli.output import (
    flat,
    format_bytes,
    format_seconds,
    print_json,
    print_record,
    print_table,
    shorten,
    visible,
)
from omnimemory.cli.search import place
from omnimemory.records import Hit

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
ATTACKS = {
    "colour": "\x1b[31mred\x1b[0m",
    "window title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJm\x1b\\",
    "8-bit CSI": "\x9b31m",
    "backspaces": "rm -rf /\b\b\b\b\b\b\b\bls",
    "carriage return": "evil\rgood",
    "delete": "a\x7fb",
    "NUL": "a\0b",
    "bidi": BIDI,
    "line separators": "a\u2028b\u2029c",
    "lone surrogate": "a\udcffb",
    "markup": "[bold red]not bold[/] [link=http://x]y[/link]",
}


def dangerous(text: str) -> set[str]:
    return {c for c in text if (unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in "\n\t") or c in BIDI}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202eab", r"\u202eab"),
        ("\x9b", r"\x9b"),
        ("\x7f\0\r", r"\x7f\x00\x0d"),
        ("a\tb\nc", "a\tb\nc"),
        ("naïve 日本語 👩‍💻", "naïve 日本語 👩‍💻"),
    ],
)
def test_controls_are_spelled_out_and_the_rest_stays(text, expected):
    assert visible(text) == expected


@given(st.text(st.characters()))
def test_no_text_keeps_anything_that_controls_a_terminal(text):
    assert not dangerous(visible(text))
    assert not dangerous(shorten(text, 20))
    assert len(shorten(text, 20)) <= 20
    assert not set("\n\t") & set(visible(text, multiline=False))


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp"])))
def test_harmless_text_is_shown_as_it_is(text):
    assert visible(text) == text


@given(st.recursive(st.text(st.characters()), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_is_one_line_of_printable_ascii_that_reads_back(value):
    out = io.StringIO()
    with redirect_stdout(out):
        print_json(value)
    text = out.getvalue()
    assert text.endswith("\n")
    assert all(" " <= c <= "~" for c in text[:-1])
    assert json.loads(text) == value


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_json_holds_each_attack_as_an_escape(attack, capsys):
    print_json({"text": attack})
    shown = capsys.readouterr().out
    assert all(" " <= c <= "~" for c in shown[:-1])
    assert json.loads(shown) == {"text": attack}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_table_cell_cannot_control_the_terminal_and_is_no_markup(attack, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    print_table(("text",), [(attack,)])
    shown = capsys.readouterr().out
    assert not dangerous(shown)
    for line in visible(attack).splitlines():
        assert line in shown


def test_a_table_fits_its_width_and_never_breaks_numbers(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    print_table(("score", "text"), [("0.123456", "word " * 30), ("1", "x" * 100)], numbers=("score",))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert any("0.123456" in line for line in lines)
    assert sum(line.count("x") for line in lines[1:]) == 100, "text is wrapped, never cut"


def test_a_record_shows_its_leaves_with_units(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    print_record({"a": {"bytes": 2048, "n": 12345}, "ok": True, "ratio": 0.5, "none": None, "empty": {}, "l": ["x", 1]})
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.strip())
    assert {key: value.strip() for key, value in shown.items()} == {
        "a.bytes": "2.0 KiB",
        "a.n": "12,345",
        "ok": "yes",
        "ratio": "0.5",
        "none": "-",
        "empty": "-",
        "l": "x, 1",
    }


def test_nested_records_become_dotted_names():
    assert dict(flat({"a": {"b": {"c": 1}}, "d": 2})) == {"a.b.c": 1, "d": 2}
    assert dict(flat({"a": [{"b": 1}, {"b": 2}], "c": [1]})) == {"a.1.b": 1, "a.2.b": 2, "c": [1]}


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 * 2**29, "1.5 GiB"), (2**50, "1024.0 TiB")],
)
def test_bytes_are_written_as_people_do(number, text):
    assert format_bytes(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.0124, "12 ms"), (1.26, "1.3 s"), (119, "119.0 s"), (600, "10 min")])
def test_times_are_written_as_people_do(seconds, text):
    assert format_seconds(seconds) == text


def hit(text: str, source: str | None, start: int | None = 0, **metadata: object) -> Hit:
    return Hit(id="1", text=text, kind="documents", source=source, start=start, metadata=metadata)


def test_a_document_is_placed_by_file_and_line_while_the_file_still_says_so(tmp_path, monkeypatch):
    file = tmp_path / "notes.md"
    file.write_text("one\ntwo\nthree\n")
    monkeypatch.chdir(tmp_path)
    assert place(hit("two", str(file), 4)) == "notes.md:2"
    file.write_text("zero\none\ntwo\nthree\n")
    assert place(hit("two", str(file), 4)) == "notes.md", "the line is not known any more"
    file.unlink()
    assert place(hit("two", str(file), 4)) == "notes.md"
    assert place(hit("two", None, None)) == ""


def test_the_place_of_a_hit_never_hangs_on_a_pipe_and_is_escaped(tmp_path):
    pipe = tmp_path / "pi\x1bpe"
    os.mkfifo(pipe)
    assert place(hit("x", str(pipe))).endswith(r"pi\x1bpe")


def test_paths_below_home_are_shown_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    assert place(hit("x", f"{tmp_path}/me/a/b.md")) == "~/a/b.md"
    assert place(hit("x", f"{tmp_path}/cwd/b.md")) == "b.md"
    assert place(hit("x", f"{tmp_path}/cwdx/b.md")) == f"{tmp_path}/cwdx/b.md"


def test_a_command_is_placed_by_how_often_and_when_and_where(monkeypatch):
    command = Hit(id="1", text="ls", kind="commands", metadata={"count": 1200, "last": 1772438400.0})
    assert place(command).startswith("1,200x, 2026-03-0")
    assert place(command.replace(metadata={"count": 2})) == "2x"
    assert place(command.replace(metadata={"count": 2, "cwd": f"{Path.home()}/api"})) == "2x, ~/api"
    assert place(command.replace(metadata={})) == ""


def test_printing_needs_no_rich_until_there_is_a_table():
    import subprocess

    code = "import sys, omnimemory.cli.output, omnimemory.cli.progress; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "rich" not in loaded
