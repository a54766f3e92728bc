"""Manual pages: text and sections."""

from __future__ import annotations

import pytest
from format_cases import outline, parsed

from omnimemory.sources.formats import SkippedError

MAN = r"""'\" t
.\" a comment
.de Vb
.ft CW
..
.de URL
link
.  .
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
