"""Bytes to text: encodings, damage, and what is no text at all."""

from __future__ import annotations

import pytest
from format_cases import parsed

from omnimemory.sources.formats import SkippedError

FRENCH = "Où est passée la clé du café ? Déjà fermé, hélas : à bientôt, garçon.\n"
GERMAN = "Grüße aus München, schöne Straße.\n"
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


@pytest.mark.parametrize("text", [FRENCH, GERMAN, JAPANESE])
def test_a_few_damaged_places_are_replaced_and_counted(text):
    data = (text * 20).encode()
    damaged = data[:300] + b"\xff" + data[300:600] + b"\xfe" + data[600:]
    document = parsed("a.txt", damaged)
    assert document.metadata == {"encoding_errors": 2}
    assert document.text.replace("\ufffd", "") == text * 20


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
