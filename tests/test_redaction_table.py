"""The tables that are shipped are what the tool makes: from small sources here, from the public examples if present."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from omnimemory.sources.redaction.command_table import TABLES, built_in_table, table_lines
from omnimemory.sources.redaction.flags import CommandTable
from tools.redaction_table.__main__ import main
from tools.redaction_table.build import table_of_examples, table_of_pages
from tools.redaction_table.letters import letter_pairs
from tools.redaction_table.manual_pages import Option, read_page
from tools.redaction_table.placeholders import Example
from tools.redaction_table.roff import plain_lines
from tools.redaction_table.secret_options import kind_of_option

ROOT = Path(__file__).resolve().parents[1]
NOTHING = CommandTable({})

MAN = r""".TH FROB 1
.SH NAME
frob, frobd \- frobnicate a server
.SH SYNOPSIS
.B frob
[\fB\-u\fR \fIuser\fR[:\fIpass\fR]] [\fB\-q\fR \fIsecretkey\fR] [\-a|\-b|\-c \fIpassword\fR]
.SH OPTIONS
.TP
\fB\-p\fR, \fB\-\-password\fR=\fIPASS\fR
The password of the server.
.TP
.B \-w \fIwhat\fP
Wait for
.I what
before going on.
.IP "\fB\-k\fR \fIstring\fR" 4
Use string as the passphrase to decrypt with.
.TP
.BI \-F " file"
Read the password from a file.
.PP
\-t, \-\-token \fIvalue\fR
.RS 4
Access token of the service.
.RE
"""
MDOC = """.Dd May 1, 2026
.Dt NICE-TOOL 8
.Sh NAME
.Nm nice-tool
.Nd a tool with parts
.Sh SYNOPSIS
.Nm nice tool
.Op Fl P Ar passphrase
.Sh DESCRIPTION
.Bl -tag
.It Fl x , Fl -auth-user Ns = Ns Ar user:password
Who logs in.
.It Fl P Ar passphrase
As above.
.El
"""


@pytest.mark.parametrize(
    ("title", "source", "lines"),
    [
        ("frob", MAN, ["frob, frobd | -c* -k* -p* -q* -t* -u@colon -w@plain"]),
        ("nice-tool", MDOC, ["nice tool | --auth-user@colon -P* -x@colon"]),
        ("other", ".TH OTHER 1\n.SH NAME\nother \\- a tool\n.SH OPTIONS\n.TP\n\\-\\-password PW\nIt.\n", []),
    ],
)
def test_a_manual_page_makes_a_line_of_the_table(title, source, lines):
    assert list(table_of_pages([read_page(title, source)], NOTHING)) == lines


def test_what_was_written_by_hand_is_left_out_and_wins():
    own = CommandTable.parse(["frob | -p@plain -k", "frobd | -w"])
    assert list(table_of_pages([read_page("frob", MAN)], own)) == [
        "frob | -c* -q* -t* -u@colon -w@plain",
        "frobd | -c* -k* -p* -q* -t* -u@colon",
    ]


@pytest.mark.parametrize(
    ("names", "value", "about", "kind"),
    [
        (("-p", "--password"), "PASS", "", "value"),
        (("-p",), None, "Prompt for a password", "bare"),
        (("-p", "--port"), "PORT", "Port of the server", "plain"),
        (("-u",), "user[:password]", "", "colon"),
        (("-U",), "username%password", "", "percent"),
        (("-y",), "passwdfile", "Use the contents of passwdfile as the password", "plain"),
        (("-w",), "passwd", "Use passwd as the password for simple authentication.", "value"),
        (("-a",), "string", "The password used to connect to the database", "value"),
        (("-a",), "string", "Prompt for the password with this string", "plain"),
        (("-e",), "string", "End of the password that is searched", "plain"),
        (("-t",), "token", "Name of the token that holds the key", "plain"),
        (("--password-file",), "FILE", "", "plain"),
        (("-n", "--name"), "NAME", "Name of the secret", "plain"),
    ],
)
def test_an_option_holds_a_secret_when_its_names_its_value_or_its_text_say_so(names, value, about, kind):
    assert kind_of_option(Option(names, value, about)) == kind


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (r".B \-x \fIfile\fR", "-x file"),
        (r".BI \-p " + '"PASS WORD"', "-pPASS WORD"),
        (r'.IP "\fB\-k\fR, \fB\-\-key\fR=\fI\,KEY\/\fR" 4', "-k, --key=KEY"),
        (r".It Fl o Ar option Ns = Ns Ar value", "-o option=value"),
        (r".Op Fl v", "[-v]"),
        (r"plain \(aqquoted\(aq text\& and \e", "plain 'quoted' text and \\"),
        (r".\" a comment", ""),
    ],
)
def test_roff_becomes_plain_text(line, text):
    assert [found.text for found in plain_lines(line)] == [text]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("tool login -t token", "tool login | -t"),
        ("sudo -u root tool -x password file", "tool | -x"),
        ("tool -pass password", None),  # the name says it
        ("tool a -xpassword file", None),  # glued, but `x` stands before the placeholder: no such flag is told
        ("tool a -ppassword file", "tool a | -p!"),
        ("tool -c username:password shell", "tool | -c@colon"),
        ("tool domain/username:password@target", "tool | #all@login"),
        ("tool set username password", "tool set | #2"),
        ("tool -x ssid password password", "tool | password"),
        ("tool -H 'Authorization: token'", None),
        ("A=1 tool -k=password", "tool | -k"),
    ],
)
def test_an_example_makes_a_line_of_the_table(command, line):
    assert list(table_of_examples([Example("tool", command)], NOTHING)) == ([line] if line else [])


def test_a_flag_that_two_sub_commands_share_is_the_commands_own():
    examples = [Example("tool", f"tool {sub} -t token") for sub in ("login", "push")]
    examples.append(Example("tool", "tool pull -s secret"))
    assert list(table_of_examples(examples, NOTHING)) == ["tool | -t", "tool pull | -s"]


def test_letter_pairs_say_which_are_usual():
    rows = list(letter_pairs(["the theme then these other", "queen quick quiet"]))
    assert len(rows) == 26
    assert {len(row) for row in rows} == {26}
    letter = "abcdefghijklmnopqrstuvwxyz".index
    assert int(rows[letter("t")][letter("h")]) > 6 < int(rows[letter("q")][letter("u")])
    assert int(rows[letter("x")][letter("q")]) <= 6


def test_the_tool_makes_the_same_tables_from_the_same_sources(tmp_path, capsys):
    pages = tmp_path / "man"
    (pages / "man1").mkdir(parents=True)
    (pages / "man1" / "frob.1").write_text(MAN)
    (pages / "nice-tool.8.gz").write_bytes(gzip.compress(MDOC.encode()))
    examples = tmp_path / "examples.tsv"
    examples.write_text("page\tdescription\tcommand\ntool\tlog in\ttool login -t token\n")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        given = ["--pages", str(pages), "--examples", str(examples), "--output", str(tmp_path / name)]
        assert main(given) == 0
    assert "2 manual pages read" in capsys.readouterr().out
    for name in ("manual.table", "tldr.table", "letters.table"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    lines = (tmp_path / "one" / "manual.table").read_text().splitlines()
    assert "nice tool | --auth-user@colon -P* -x@colon" in lines
    assert CommandTable.parse(lines).find("frob", ["-p"]) is not None


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_the_pages_of_a_package_are_read(tmp_path):
    root = tmp_path / "frob"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: frob\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: frob\n"
    )
    page = root / "usr" / "share" / "man" / "man1"
    page.mkdir(parents=True)
    (page / "frob.1.gz").write_bytes(gzip.compress(MAN.encode()))
    (tmp_path / "out").mkdir()
    subprocess.run(["dpkg-deb", "--build", root, tmp_path / "frob.deb"], check=True, capture_output=True)
    assert main(["--packages", str(tmp_path), "--output", str(tmp_path / "out")]) == 0
    assert "frob, frobd | " in (tmp_path / "out" / "manual.table").read_text()


def test_the_shipped_table_of_examples_is_what_the_tool_makes(shared_data, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tools.redaction_table",
            "--examples",
            shared_data / "tldr" / "dev.tsv",
            "--output",
            tmp_path,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "examples read" in done.stdout
    assert (tmp_path / "tldr.table").read_text().splitlines() == table_lines("tldr")


def test_every_shipped_table_says_where_it_comes_from_and_can_be_read():
    for name in TABLES:
        lines = table_lines(name)
        assert lines[0].startswith("# ")
        assert len(list(CommandTable.parse(lines))) > 10
    assert "CC-BY-4.0" in "\n".join(table_lines("tldr")[:3])
    notice = (ROOT / "NOTICE").read_text()
    assert "tldr-pages" in notice
    assert "CC-BY-4.0" in notice
    assert "Debian" in notice


def test_no_mined_line_overrides_one_that_was_written_by_hand():
    own = dict(CommandTable.parse(table_lines("commands")))
    for name in ("manual", "tldr"):
        for path, rules in CommandTable.parse(table_lines(name)):
            for known, written in own.items():
                if known == path[: len(known)]:
                    assert not rules.flags.keys() & written.flags.keys(), path


def test_the_list_of_packages_is_sorted_and_has_no_doubles():
    names = (ROOT / "tools" / "redaction_table" / "packages.txt").read_text().split()
    assert len(names) > 500
    assert names == sorted(set(names))


def test_the_built_in_table_has_all_of_them():
    table = built_in_table()
    assert {"mysql", "bore", "ldapsearch", "x11vnc"} <= table.names
    assert table.find("amtterm", ["-p"]).flags["-p"].glued
