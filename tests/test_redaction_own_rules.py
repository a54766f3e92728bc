"""A user's own rules, and the report of what struck where: in the library, in settings, on the command line."""

import json
import random
import string
import subprocess
import sys

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from omnimemory.cli import cli
from omnimemory.config import load_settings
from omnimemory.errors import ConfigError
from omnimemory.memory import Memory
from omnimemory.sources.redaction import Redactor
from omnimemory.sources.redaction.rule_names import RULES

SECRET = "".join(random.Random(5).choice(string.ascii_lowercase) for _ in range(10))


# How a rule is written


@pytest.mark.parametrize(
    ("deny", "line", "expected"),
    [
        (r"/ACME-\d+/", "frob ACME-12 x", "frob [REDACTED:own] x"),
        ("frob | -n", "frob -n blue", "frob -n [REDACTED:flag]"),
        ("frob login | #2", "sudo frob login ann blue", "sudo frob login ann [REDACTED:argument]"),
        ("frob | -n", "ssh h 'frob -n blue'", "ssh h 'frob -n [REDACTED:flag]'"),
        ("frob | <@stdin", "echo blue | frob", "echo [REDACTED:stdin] | frob"),
        ("git | -m", "git commit -m blue", "git commit -m [REDACTED:flag]"),  # the built-in table says it is harmless
    ],
)
def test_what_is_denied_is_taken_out_as_well(deny, line, expected):
    assert Redactor().command(line).text == line
    assert Redactor(deny=(deny,)).command(line).text == expected
    again = Redactor(deny=(deny,)).command(expected)
    assert (again.text, again.counts) == (expected, {})


@pytest.mark.parametrize(
    ("allow", "line"),
    [
        (f"/{SECRET}/", f"mysql -p{SECRET} shop"),
        ("mysql | -p", f"mysql -p{SECRET} shop"),
        ("mysql | -p*", f"ssh h 'mysql -p{SECRET} shop'"),
        ("frob | --password", f"frob --password {SECRET}"),
        ("frob | --password", f"frob --password={SECRET}"),
        ("docker | -p", f"docker login -u ann -p {SECRET}"),  # also for its sub-commands
        ("rule:url-password", f"open ftp://ann:{SECRET}@h"),
        ("rule:environment", f"DB_PASSWORD={SECRET} make"),
        ("rule:stdin", f"echo ann:{SECRET} | chpasswd"),
        ("pass | <", f"echo {SECRET} | pass insert x"),
    ],
)
def test_what_is_allowed_stays(allow, line):
    assert SECRET not in Redactor().command(line).text
    found = Redactor(allow=(allow,)).command(line)
    assert (found.text, found.counts) == (line, {})


def test_an_expression_must_match_the_whole_find_to_allow_it():
    line = f"mysql -p{SECRET}x shop"
    assert Redactor(allow=(f"/{SECRET}/",)).command(line).text == "mysql -p[REDACTED:flag] shop"


def test_allow_wins_over_deny_and_expressions_hold_for_documents_too():
    both = Redactor(deny=(r"/ACME-\d+/", "frob | -n"), allow=("/ACME-1/", "frob | -n"))
    assert both.document("ACME-1 and ACME-2").text == "ACME-1 and [REDACTED:own]"
    assert both.command("frob -n blue ACME-2").text == "frob -n blue [REDACTED:own]"
    assert Redactor(allow=("rule:url-password",)).document("http://a:bcdef@h").text == "http://a:bcdef@h"


@pytest.mark.parametrize(
    ("deny", "allow", "told"),
    [
        (("frob",), (), "deny, rule 1: 'frob' has none of the forms"),
        (("/a/", "/(/"), (), "deny, rule 2: '/(/' is no regular expression: missing )"),
        (("/a*/",), (), "deny, rule 1: '/a*/' matches an empty text"),
        (("/" + "a" * 600 + "/",), (), "longer than 500"),
        (("frob | -k@nonsense",), (), "deny, rule 1: unknown kind 'nonsense'"),
        (("| -k",), (), "deny, rule 1: not a rule line"),
        (("rule:flag",), (), "deny, rule 1: 'rule:flag'"),
        ((), ("/a/", "rule:flog"), "allow, rule 2: there is no rule 'flog': did you mean flag?"),
        ((), ("rule:zzzzzz",), "omnimemory redact --rules"),
    ],
)
def test_a_wrong_rule_is_named_with_its_list_and_number(deny, allow, told):
    with pytest.raises(ValueError, match=r".") as error:
        Redactor(deny=deny, allow=allow)
    assert told in str(error.value)


def test_the_version_of_the_rules_changes_with_own_rules():
    versions = [Redactor().rules_version(), Redactor(deny=("/a/",)).rules_version()]
    versions += [Redactor(allow=("/a/",)).rules_version(), Redactor(enabled=False).rules_version()]
    assert len(set(versions)) == 4
    assert Redactor().rules_version() == versions[0]


# What struck where

PIECES = [
    "mysql -psecret9 ",
    "A_TOKEN=abc123 ",
    "ftp://a:b77@h ",
    "[REDACTED:flag]",
    "echo x9 | su ",
    "'",
    '"',
    "$(",
    ")",
]
PIECES += [
    "ssh h ",
    "frob -t x9Kd2mZqP ",
    "| ",
    "x",
    "\n",
    "--password ",
    "ACME-1 ",
    "curl -H 'Authorization: Bearer abcd' ",
]


@profile(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=10).map("".join))
def test_the_findings_alone_make_the_redacted_text(text):
    found = Redactor(deny=(r"/ACME-\d/",)).explain(text)
    made, position = [], 0
    for finding in found.findings:
        assert position <= finding.start < finding.end <= len(text)
        made += [text[position : finding.start], f"[REDACTED:{finding.rule}]"]
        position = finding.end
    assert "".join([*made, text[position:]]) == found.text
    assert found.text == Redactor(deny=(r"/ACME-\d/",)).command(text).text
    assert all(finding.rule in RULES for finding in found.findings)


def test_a_finding_names_what_told():
    line = f"A_TOKEN={SECRET} mysql -p{SECRET} && frob --db-password {SECRET} | vault write a b={SECRET}"
    why = [finding.why for finding in Redactor().explain(line).findings]
    assert why == ["A_TOKEN", "mysql -p, in the table", "--db-password", "an argument of vault, in the table"]
    assert Redactor(enabled=False).explain(line).findings == ()
    document = Redactor().explain("see http://ann:hunter22@h", document=True)
    assert [finding.rule for finding in document.findings] == ["url-password"]


# Settings


def write_settings(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load_settings(environ={"OMNIMEMORY_CONFIG": str(path), "HOME": str(tmp_path)}, cwd=tmp_path)


def test_a_wrong_rule_in_a_file_is_named_with_its_line(tmp_path, settings):
    found = write_settings(tmp_path, '[search]\nk = 3\n\n[redaction]\nallow = ["/a/"]\ndeny = ["/b/", "frob"]\n')
    bad = settings.with_values({"redaction.allow": found.redaction.allow})
    assert bad.redaction.allow == ("/a/",)
    with (
        Memory(tmp_path / "store", settings=found) as memory,
        pytest.raises(ConfigError, match=r"config\.toml:6: redaction\.deny, rule 2: 'frob'"),
    ):
        memory.add("a note")


def test_a_projects_file_may_not_decide_what_is_a_secret(tmp_path):
    (tmp_path / "omnimemory.toml").write_text('[redaction]\nallow = ["/.+/"]\n')
    with pytest.raises(ConfigError, match=r"omnimemory\.toml:2.*redaction\.allow"):
        load_settings(environ={"HOME": str(tmp_path)}, cwd=tmp_path)


def test_own_rules_hold_wherever_something_comes_in(tmp_path, settings):
    own = settings.with_values({"redaction.deny": ["/ACME-[0-9]+/"]})
    (tmp_path / "history").write_text("frob ACME-77\n")
    (tmp_path / "page.md").write_text("the number is ACME-78\n")
    with Memory(settings=own) as memory:
        memory.ingest_history(tmp_path / "history", shell="bash")
        memory.ingest(tmp_path / "page.md")
        memory.add("note ACME-79")
        texts = [hit.text for hit in memory.search("REDACTED", mode="keyword")]
        assert len(texts) == 3
        assert not [text for text in texts if "ACME" in text]
        assert memory.redact("frob ACME-80").text == "frob [REDACTED:own]"
        assert memory.redact("frob ACME-80").findings[0].rule == "own"
        asked: list[str] = []
        embed = memory.embeddings.embedder.embed
        memory.embeddings.embedder.embed = lambda texts, role: (asked.extend(texts), embed(texts, role))[1]
        memory.search("where is ACME-81")
        assert asked == ["where is [REDACTED:own]"]


def test_a_document_is_read_again_when_own_rules_change(tmp_path, settings):
    page = tmp_path / "page.md"
    page.write_text("the number is ACME-78\n")
    with Memory(settings=settings) as memory:
        memory.ingest(page)
    with Memory(settings=settings.with_values({"redaction.deny": ["/ACME-[0-9]+/"]})) as memory:
        assert memory.ingest(page).updated + memory.ingest(page).unchanged >= 1
        assert memory.search("number", mode="keyword")[0].text.strip() == "the number is [REDACTED:own]"
        assert memory.ingest(page).unchanged == 1


def test_a_search_imports_no_rules_and_no_table(settings, tmp_path):
    with Memory(settings=settings) as memory:
        memory.add("a note about boats")
    script = (
        "import sys\nfrom omnimemory import Memory\n"
        f"with Memory({str(settings.store.path)!r}) as memory: assert memory.search('boats', mode='keyword')\n"
        "print(*(name for name in sys.modules if 'redaction' in name))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"omnimemory.sources.redaction", "omnimemory.sources.redaction.spans"}


# On the command line


def run(*arguments, given=None, env=None):
    done = CliRunner().invoke(cli, ["redact", *arguments], input=given, env=env)
    return done, [json.loads(line) for line in done.stdout.splitlines()]


def test_the_command_tells_the_rule_and_the_place_and_stores_nothing(own_home):
    line = f"mysql -u root -p{SECRET} shop"
    done, (found,) = run(line)
    assert done.exit_code == 0
    assert found["text"] == "mysql -u root -p[REDACTED:flag] shop"
    (finding,) = found["findings"]
    assert (finding["rule"], finding["why"]) == ("flag", "mysql -p, in the table")
    assert line[finding["start"] : finding["end"]] == SECRET
    assert SECRET not in done.output
    assert not list(own_home.rglob("*"))


def test_lines_come_from_standard_input_and_a_document_is_one_text():
    done, found = run(given=f"ls\nmysql -p{SECRET}\n TOKEN=abc123\n")
    assert [line["text"] for line in found] == ["ls", "mysql -p[REDACTED:flag]", " TOKEN=[REDACTED:environment]"]
    assert [line["skip"] for line in found] == [False, False, True]
    done, (found,) = run("--document", given=f"see\nhttp://ann:{SECRET}@h\n")
    assert found["text"] == "see\nhttp://ann:[REDACTED:url-password]@h\n"
    assert done.exit_code == 0


def test_the_rules_are_listed_with_ones_own(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[redaction]\nallow = ["rule:jwt"]\ndeny = ["mysql | -x*"]\n')
    environment = {"OMNIMEMORY_CONFIG": str(path)}
    _, rows = run("--rules", env=environment)
    states = {row["rule"]: row["state"] for row in rows if "state" in row}
    assert states.keys() == RULES.keys()
    assert (states["jwt"], states["flag"]) == ("off", "on")
    assert [row["rule"] for row in rows if "own" in row] == ["mysql | -x*", "rule:jwt"]
    done, rows = run("--rules", "mysql", "no-such-tool", env=environment)
    assert [row["origin"] for row in rows] == ["manual.table", "commands.table", "your settings"]
    assert rows[-1]["rules"] == "-x*"
    assert "no line of the table is about no-such-tool" in done.stderr


def test_a_wrong_rule_ends_the_command_with_its_line(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[redaction]\ndeny = [\n  "/a/",\n  "oops",\n]\n')
    done = CliRunner().invoke(cli, ["redact", "ls"], env={"OMNIMEMORY_CONFIG": str(path)})
    assert done.exit_code == ConfigError("x").exit_code
    assert f"{path}:2: redaction.deny, rule 2: 'oops'" in done.stderr


def test_what_the_report_prints_can_be_read_as_a_table_again():
    from omnimemory.sources.redaction.command_table import built_in_table
    from omnimemory.sources.redaction.flags import CommandTable
    from omnimemory.sources.redaction.rule_report import notation

    for path, rules in built_in_table():
        text = " ".join(notation(path, rules))
        ((again, read),) = CommandTable.parse([f"{' '.join(path)} | {text}"])
        assert (again, read) == (path, rules), text
