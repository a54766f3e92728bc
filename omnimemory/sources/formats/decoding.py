"""Bytes to text: which encoding a file is in, and whether it is text at all.

The order is: a byte order mark, UTF-8, UTF-16 without a mark, the encoding that the file itself declares
(``charset=``, ``coding:``), a guess by charset-normalizer among the encodings that people really used, and at last
UTF-8 with replacement characters. A file with NUL bytes in its first 8 KiB that is none of the UTF-16/32 family is
binary: the sniff that git and grep use. Newlines are left as they are in the file, so offsets stay exact.
"""

from __future__ import annotations

import codecs
import re
import zlib
from dataclasses import dataclass

from omnimemory.errors import SourceError

__all__ = ["Decoded", "SkippedError", "decode", "gunzip", "without_surrogates"]

_SNIFF = 8192
_SAMPLE = 16384
_RATIO = 100  # gzip reaches 1000 on zeros; text rarely passes 20
_RATIO_FROM = 1024 * 1024
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# charset-normalizer knows 99 encodings and picks exotic ones for short texts; these are the usual, commonest first.
_LEGACY = [
    *("cp1252", "cp1251", "koi8_r", "cp932", "euc_jp", "gb18030", "big5", "cp949"),
    *("cp1250", "iso8859_2", "cp1253", "cp1254", "cp1255", "cp1256", "cp874", "cp437"),
]
_DECLARED = re.compile(rb"(?:charset|coding|encoding)\s*[:=]\s*[\"']?([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)
_REAL = re.compile(r"cp\d|iso|koi8|euc|shift|big5|gb|mac|tis|johab|hz|utf-(?:8|16|32)")  # no unicode_escape, idna...
_CONTROL = re.compile(rb"[\x01-\x07\x0e-\x1a\x1c-\x1f\x7f]+")
_SURROGATE = re.compile("[\ud800-\udfff]")


class SkippedError(SourceError):
    """A file is not taken, harmlessly: it is not text, empty, or larger than the limit."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text, the encoding it was in, and how many undecodable places became U+FFFD."""

    text: str
    encoding: str = "utf-8"
    errors: int = 0


def decode(data: bytes) -> Decoded:
    """Return ``data`` as text with newlines untouched and neither NUL characters nor lone surrogates in it.

    Raises :class:`SkippedError` when the bytes are not text.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _replacing(data[len(mark) :], encoding)
    head = data[:_SNIFF]
    if b"\0" in head:
        wide = _utf16_without_mark(data)
        if wide is None:
            raise SkippedError("not text: it holds NUL bytes")
        return wide
    if sum(map(len, _CONTROL.findall(head))) > len(head) // 20:
        raise SkippedError("not text: too many control characters")
    try:
        return _clean(data.decode("utf-8"), "utf-8")
    except UnicodeDecodeError as error:
        return _not_utf8(data, error.start)


def _not_utf8(data: bytes, at: int) -> Decoded:
    replaced = _replacing(data, "utf-8")
    good = len(replaced.text) - len(replaced.text.encode("ascii", "ignore")) - replaced.errors
    if good >= 4 * replaced.errors:  # UTF-8 with a few damaged places
        return replaced
    encoding = _declared(data) or _guessed(data, at)
    if encoding is not None:
        return _clean(data.decode(encoding), encoding)
    if replaced.errors * 5 > len(replaced.text) * 2:
        raise SkippedError("not text: in no encoding known here")
    return replaced


def _declared(data: bytes) -> str | None:
    match = _DECLARED.search(data[:1024])
    try:
        name = codecs.lookup(match[1].decode("ascii")).name if match else ""
    except LookupError:
        return None
    if not _REAL.match(name):
        return None
    # Browsers read Latin-1 as its superset cp1252, because that is what was meant.
    names = ("cp1252", name) if name == "iso8859-1" else (name,)
    return next((each for each in names if _decodes(data, each)), None)


def _guessed(data: bytes, at: int) -> str | None:
    from charset_normalizer import from_bytes  # noqa: PLC0415 - rarely needed

    line = data.rfind(b"\n", max(0, at - _SAMPLE // 4), at)
    start = line + 1 if line >= 0 else 0 if at < _SAMPLE // 4 else at  # a line's start is a character's start
    matches = from_bytes(data[start : start + _SAMPLE], cp_isolation=_LEGACY)
    best = matches.best()
    if best is None:
        return None
    # cp1250 and cp1252 often explain a text equally well; then the commoner one is meant.
    equal = [match for match in matches if match.chaos <= best.chaos and match.coherence >= best.coherence]
    names = {name for match in equal for name in (match.encoding, *match.could_be_from_charset)}
    guess = next((name for name in _LEGACY if name in names and _decodes(data, name)), None)
    return guess.replace("_", "-") if guess else None


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except ValueError:
        return False
    return True


def _utf16_without_mark(data: bytes) -> Decoded | None:
    """Decode UTF-16 that lacks its mark: every NUL is the high half of an ASCII character.

    At least a quarter of the characters must be ASCII: single NULs between letters are what binary files have.
    """
    head = data[:_SNIFF]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if min(even, odd) > 0 or max(even, odd) * 8 < len(head) or len(data) % 2:
        return None
    encoding = "utf-16-be" if even else "utf-16-le"
    if not _decodes(data, encoding):
        return None
    text = data.decode(encoding)
    sample = text[: _SNIFF // 2]
    strange = sum(1 for char in sample if not (char.isprintable() or char.isspace()))
    return _clean(text, encoding) if strange * 50 <= len(sample) else None


def _replacing(data: bytes, encoding: str) -> Decoded:
    text = data.decode(encoding, "replace")
    return _clean(text, encoding, text.count("\ufffd") - data.count("\ufffd".encode(encoding)))


def _clean(text: str, encoding: str, errors: int = 0) -> Decoded:
    """Replace NUL characters one by one, which keeps every offset."""
    nuls = text.count("\0")
    return Decoded(text.replace("\0", "\ufffd") if nuls else text, encoding, errors + nuls)


def without_surrogates(text: str) -> str:
    r"""Return ``text`` with lone surrogates replaced: JSON's ``\ud800`` makes them, and no store takes them."""
    return _SURROGATE.sub("\ufffd", text)


def gunzip(data: bytes, max_bytes: int) -> bytes:
    """Return what the gzip file ``data`` holds.

    Raises :class:`SkippedError` when that is more than ``max_bytes`` or, beyond 1 MiB, more than 100 times its own
    size; :class:`SourceError` when the data is damaged or cut short.
    """
    parts: list[bytes] = []
    room = min(max_bytes, max(_RATIO_FROM, len(data) * _RATIO))
    while data[:2] == b"\x1f\x8b":  # a gzip file may have several members
        stream = zlib.decompressobj(wbits=31)
        try:
            parts.append(stream.decompress(data, room + 1))
        except zlib.error as error:
            raise SourceError(f"damaged gzip data ({error}); unpack the file to see what is left of it") from None
        room -= len(parts[-1])
        if room < 0:
            raise SkippedError(
                f"unpacks to more than the limit of {max_bytes} bytes, or to over {_RATIO} times its size"
            )
        if not stream.eof:
            raise SourceError("the gzip data is cut short; copy or download the file again")
        data = stream.unused_data
    if not parts:
        raise SourceError("not gzip data, although its name ends in .gz; rename the file")
    return b"".join(parts)
