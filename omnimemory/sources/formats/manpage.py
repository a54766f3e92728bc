"""Manual pages (man and mdoc macros of roff) to text: a reader, not a formatter.

Requests are dropped and text is kept line by line as it stands; fonts and sizes go, special characters become what
they stand for (groff_char(7)), ``.SH``, ``.SS``, ``.Sh`` and ``.Ss`` become headings. Tables keep their rows, equations
and macro definitions are left out, both branches of a condition are read. That is enough to search a page; to
typeset it takes groff.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from omnimemory.records import Document, Heading

__all__ = ["is_manpage", "read_manpage"]

_NAME = re.compile(r"\.[1-9][a-z0-9]{0,12}$", re.IGNORECASE)
_ROFF = re.compile(r"^[.'][ \t]*(?:TH|Dd|SH|Sh|so)\b", re.MULTILINE)
_REQUEST = re.compile(r"[.'][ \t]*(\S*)[ \t]*(.*)", re.DOTALL)
_WORD = re.compile(r'"((?:[^"]|"")*)"?|(\S+)')
_ESCAPE = re.compile(
    r"""\\(?: ["\#].*
      | [fFmMkngVY](?:\[[^\]]*\]|\(..|.)
      | s(?:[-+]?\(..|[-+]?\[[^\]]*\]|[-+]?\d{1,2}|'[^']*')
      | [hvwblLoDSHRxXZ]'(?P<arg>[^']*)'
      | N'(?P<number>\d+)'
      | \*?(?:\[(?P<long>[^\]]*)\]|\((?P<two>..))
      | \*(?P<one>.)
      | (?P<char>.) | $ )""",
    re.VERBOSE,
)
_CHARACTERS = {
    **{"aq": "'", "dq": '"', "cq": "’", "oq": "‘", "lq": "“", "rq": "”", "Aq": "'", "ga": "`", "aa": "´", "ha": "^"},
    **{"em": "—", "en": "–", "hy": "-", "mi": "-", "bu": "•", "co": "©", "rg": "®", "tm": "™", "de": "°", "ti": "~"},
    **{"rs": "\\", "sl": "/", "ba": "|", "or": "|", "at": "@", "sh": "#", "lB": "[", "rB": "]", "lC": "{", "rC": "}"},
    **{"Do": "$", "Eu": "€", "Po": "£", "mu": "×", "di": "÷", "+-": "±", "->": "→", "<-": "←", "<=": "≤", ">=": "≥"},
    **{"!=": "≠", "==": "≡", "~~": "≈", "ss": "ß", "ae": "æ", "oe": "œ", "o/": "ø", "Fo": "«", "Fc": "»", "fo": "‹"},
    **{"fc": "›", "sc": "§", "ps": "¶", "12": "½", "14": "¼", "34": "¾", "la": "⟨", "ra": "⟩", "pc": "·", "c'": "ć"},
    **{"R": "®", "Tm": "™", "L\"": "“", "R\"": "”", "C`": '"', "C'": '"', "*a": "α", "*b": "β", "*m": "μ", "*p": "π"},
}
_ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", ":": "\u0308", "~": "\u0303", ",": "\u0327"}
_SIMPLE = {"-": "-", "e": "\\", "\\": "\\", " ": " ", "~": " ", "0": " ", "'": "´", "`": "`", ".": ".", "t": "\t", "_": "_"}
_SKIP_UNTIL = {"de": "..", "de1": "..", "am": "..", "ig": "..", "EQ": ".EN", "PS": ".PE", "GS": ".GE"}
_BLANKS = frozenset("PP P LP Pp Lp HP sp bp TP TQ IP RS RE EX EE nf fi Bl El Bd Ed TS TE UR MT SY YS".split())
_JOINED = frozenset({"BR", "RB", "IR", "RI", "BI", "IB"})
_SPACED = frozenset({"B", "I", "SM", "SB", "R", "IP", "UR", "MT", "SY", "OP"})
