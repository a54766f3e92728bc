"""The semantic macros of BSD manual pages, mdoc(7), as the text they print."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["CALLABLE", "spoken"]

_ENCLOSED = {
    **dict.fromkeys(("Op", "Bq"), "[]"),
    **dict.fromkeys(("Sq", "Ql"), "''"),
    "Pq": "()",
    "Aq": "<>",
    "Brq": "{}",
    "Dq": "“”",
    "Qq": '""',
}
_OPENING = {"Oo": "[", "Bo": "[", "Po": "(", "Ao": "<", "Do": "“", "Qo": '"', "So": "'", "Bro": "{"}
_CLOSING = {"Oc": "]", "Bc": "]", "Pc": ")", "Ac": ">", "Dc": "”", "Qc": '"', "Sc": "'", "Brc": "}"}
_SILENT = """
    Ad An Ar At Bf Bx Cd Cm Dl D1 Dv Dx Ef Em Er Ev Ex Fa Fd Fn Fo Fc Ft Fx Ic In Lb Li Lk Ms Mt Nd Nm No Nx Ox Pa Pf
    Rv St Sx Sy Ta Tg Tn Ux Va Vt Xo Xc %A %T %D %B %J %R %U %I
"""
CALLABLE = frozenset({"Fl", "Xr", "Ns", *_ENCLOSED, *_OPENING, *_CLOSING, *_SILENT.split()})
"""Macros whose arguments are text. ``Op`` and its like enclose the rest of the line."""

_PUNCTUATION = frozenset(".,;:)]?!")


def spoken(given: Sequence[str], name: str) -> str:
    """Return what a line of mdoc prints; ``name`` is what ``Nm`` without arguments stands for."""
    line = _Line()
    queue = list(given)
    trailing = ""
    while queue and queue[-1] in _PUNCTUATION:
        trailing = queue.pop() + trailing
    for at, word in enumerate(queue):
        following = queue[at + 1] if at + 1 < len(queue) else None
        if word in CALLABLE:
            line.macro(word, following, name)
        else:
            line.word(word)
    return line.text + line.closers + trailing


class _Line:
    """One output line while its words are put together."""

    def __init__(self) -> None:
        self.text = ""
        self.closers = ""
        self._glued = True
        self._mode = ""

    def word(self, word: str) -> None:
        """Add a word in the way of the macro it belongs to."""
        if self._mode == "Fl" and word not in _PUNCTUATION:
            word = f"-{word}"
        elif self._mode == "Xr" and word[:1].isdigit():
            word, self._glued = f"({word})", True
        self._add(word)

    def macro(self, macro: str, following: str | None, name: str) -> None:
        """Begin a macro; ``following`` is the word behind it."""
        self._mode = macro
        alone = following is None or following in CALLABLE
        if macro == "Nd":
            self._add("—")
        elif macro == "Nm" and alone:
            self._add(name)
        elif macro == "Fl" and alone:
            self._add("-")
            self._glued = following == "Fl"
        elif macro in {"Ns", "Pf"}:
            self._glued = True
        elif macro in _CLOSING:
            self._glued = True
            self._add(_CLOSING[macro])
        elif macro in _OPENING or macro in _ENCLOSED:
            self._add((_OPENING.get(macro) or _ENCLOSED[macro])[0])
            self._glued = True
            self.closers = _ENCLOSED.get(macro, "  ")[1].strip() + self.closers

    def _add(self, text: str) -> None:
        space = "" if self._glued or text in _PUNCTUATION else " "
        self.text += space + text
        self._glued = False
