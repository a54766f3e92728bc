"""The words and escapes of roff, as groff(7) and groff_char(7) define them."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["plain", "words"]

_WORD = re.compile(r'"((?:[^"]|"")*)"?|((?:\\.|[^\s\\])+)|\\$')
_ESCAPE = re.compile(
    r"""\\(?: ["\#].*
      | [fFmMkngVY](?:\[[^\]]{0,99}\]|\(..|.)
      | s(?:[-+]?\(..|[-+]?\[[^\]]{0,99}\]|[-+]?\d{1,2}|'[^']{0,99}')
      | [hvwblLoDSHRxXZ]'[^']{0,99}'
      | N'(?P<number>\d{1,7})'
      | \*?(?:\[(?P<long>[^\]]{0,99})\]|\((?P<two>..))
      | \*(?P<one>.)
      | (?P<char>.) | $ )""",
    re.VERBOSE,
)
_NAMED = """
    aq ' dq " cq ’ oq ‘ lq “ rq ” Aq ' ga ` aa ´ ha ^ em — en – hy - mi - -- — bu • co © rg ® R ® tm ™ Tm ™ de ° ti ~
    rs \\ sl / ba | or | at @ sh # ci ○ lB [ rB ] lC { rC } Do $ Eu € Po £ mu × di ÷ +- ± -> → <- ← <= ≤ >= ≥ != ≠
    == ≡ ~~ ≈ ss ß ae æ oe œ AE Æ OE Œ /o ø /O Ø oa å oA Å Fo « Fc » fo ‹ fc › sc § ps ¶ 12 ½ 14 ¼ 34 ¾ la ⟨ ra ⟩
    pc · C+ C++ PI π L" “ R" ” C` " C' " *a α *b β *m μ *p π *W Ω if ∞
"""  # noqa: RUF001 - the characters themselves
_CHARACTERS = dict(zip(_NAMED.split()[::2], _NAMED.split()[1::2], strict=True))
_ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", ":": "\u0308", "~": "\u0303", ",": "\u0327", "v": "\u030c"}
_SIMPLE = {"e": "\\", "t": "\t", "~": " ", "0": " ", "'": "\u00b4", **{char: char for char in "-\\ `._"}}


def plain(line: str) -> str:
    """Return a line of roff without its escapes."""
    return _ESCAPE.sub(_meant, line) if "\\" in line else line


def words(arguments: str) -> list[str]:
    """Return the arguments of a macro, without quotes, escapes and the comment behind them."""
    found = []
    for match in _WORD.finditer(arguments):
        quoted, bare = match[1], match[2]
        if bare is not None and bare.startswith('\\"'):
            break
        found.append(plain(quoted.replace('""', '"') if quoted is not None else bare or ""))
    return found


def _meant(escape: re.Match[str]) -> str:
    char: str | None = escape["char"]
    if char is not None:
        return _SIMPLE.get(char, "")
    if escape["number"] is not None:
        return _character(int(escape["number"]))
    name: str | None = escape["long"] or escape["two"] or escape["one"]
    if not name:
        return ""
    if name[0] == "u" and re.fullmatch(r"u[0-9A-F]{4,6}(_[0-9A-F]{4,6})*", name):
        return "".join(_character(int(part, 16)) for part in name[1:].split("_"))
    if len(name) == 2 and name[0] in _ACCENTS and name[1].isalpha():
        return unicodedata.normalize("NFC", name[1] + _ACCENTS[name[0]])
    return _CHARACTERS.get(name, "")


def _character(number: int) -> str:
    return chr(number) if 32 <= number < 0xD800 or 0xDFFF < number <= 0x10FFFF else ""
