"""``redact``: what would be taken out of a text, and why. It looks, and stores nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from omnimemory.cli.opening import current_settings
from omnimemory.cli.options import examples, json_option
from omnimemory.cli.output import note, print_json, print_table, visible, wants_json

if TYPE_CHECKING:
    from omnimemory.sources.redaction import Redaction, Redactor

__all__ = ["redact"]

_HELP_RULES = """\b
Own rules are texts in the lists redaction.deny and redaction.allow:
  /EXPRESSION/              deny: what it matches is a secret; allow: a find
                            that it matches as a whole is none
  COMMAND ... | FLAG ...    deny: these flags take a secret; allow: they do
                            not (`#2`: the second argument; `-k*`: -kVALUE)
  rule:NAME                 allow: switch off the rule of [REDACTED:NAME]
"""


@click.command(
    short_help="Show what would be taken out of a text, and by which rule.",
    epilog=_HELP_RULES
    + "\n"
    + examples(
        "omnimemory redact 'curl -u ann:PASSWORD https://example.org'",
        "tail -100 ~/.bash_history | omnimemory redact",
        "omnimemory redact --rules mysql docker",
    ),
)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--document", is_flag=True, help="Read each TEXT as a document, not as a command line.")
@click.option("--rules", is_flag=True, help="List the rules, or what is known about the commands TEXT... names.")
@json_option
def redact(texts: tuple[str, ...], document: bool, rules: bool, as_json: bool) -> None:
    """Show what would be taken out of a text, by which rule, and why. Nothing is stored.

    Each TEXT is one command line. Without one, standard input is read: a command line on each line, or one document
    with --document. What is no longer there cannot leak, but no list of rules finds every secret.
    """
    from omnimemory.wiring import redactor_of  # noqa: PLC0415 - keeps `--help` light

    redactor = redactor_of(current_settings())
    if rules:
        _show_rules(redactor, texts, as_json=wants_json(as_json))
        return
    total = 0
    for text in texts or _standard_input(whole=document):
        found = redactor.explain(text, document=document)
        total += len(found.findings)
        if wants_json(as_json):
            print_json(asdict(found))
        else:
            _show(found)
    if not wants_json(as_json):
        note(f"{total:,} found. Nothing was stored.")


def _standard_input(*, whole: bool) -> Iterator[str]:
    stream = sys.stdin.buffer
    if whole:
        yield stream.read().decode(errors="replace")
        return
    for line in stream:
        yield line.decode(errors="replace").rstrip("\r\n")


def _show(found: Redaction) -> None:
    from omnimemory.sources.redaction.rule_names import RULES  # noqa: PLC0415 - keeps `--help` light

    click.echo(visible(found.text))
    if found.skip:
        note("  left out as a whole: it starts with a space, as shells are told what not to remember")
    rows = [
        (finding.rule, f"{finding.start}-{finding.end}", finding.why or "-", RULES[finding.rule])
        for finding in found.findings
    ]
    if rows:
        print_table(("rule", "characters", "told by", "the rule is about"), rows)


def _show_rules(redactor: Redactor, commands: Sequence[str], *, as_json: bool) -> None:
    from omnimemory.sources.redaction.rule_names import RULES  # noqa: PLC0415 - keeps `--help` light
    from omnimemory.sources.redaction.rule_report import known_commands  # noqa: PLC0415 - as above

    if commands:
        known = [line for name in commands for line in known_commands(name, redactor.deny, redactor.allow)]
        if as_json:
            for line in known:
                print_json(line._asdict())
        else:
            print_table(("from", "command", "rules"), known)
        missing = sorted(set(commands) - {line.command.partition(" ")[0] for line in known})
        if missing:
            note(f"no line of the table is about {', '.join(missing)}: the general rules hold")
        return
    off = [rule.removeprefix("rule:").strip() for rule in redactor.allow if rule.startswith("rule:")]
    rows = [(name, "off" if name in off else "on", about) for name, about in sorted(RULES.items())]
    own = [("deny", rule) for rule in redactor.deny] + [("allow", rule) for rule in redactor.allow]
    if as_json:
        for name, state, about in rows:
            print_json({"rule": name, "state": state, "about": about})
        for kind, rule in own:
            print_json({"own": kind, "rule": rule})
        return
    print_table(("rule", "", "what it is about"), rows)
    if own:
        print_table(("own rules", ""), own)
