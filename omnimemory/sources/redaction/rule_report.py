"""What the table knows about a command, in the notation it is written in, for people who want to look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from omnimemory.sources.redaction.command_table import TABLES, table_lines
from omnimemory.sources.redaction.flags import CommandRules, CommandTable, FlagRule
from omnimemory.sources.redaction.own_rules import compiled

__all__ = ["KnownCommand", "known_commands"]

MARKS = {(True, True): "*", (False, True): "!", (False, False): "=", (True, False): ""}


class KnownCommand(NamedTuple):
    """A line of the table: where it comes from, the command with its sub-commands, its rules."""

    origin: str
    command: str
    rules: str


def known_commands(name: str, deny: tuple[str, ...] = (), allow: tuple[str, ...] = ()) -> Iterator[KnownCommand]:
    """Yield what is known about a command, from weak to strong: own rules come last and win."""
    tables = [(f"{table}.table", CommandTable.parse(table_lines(table))) for table in TABLES]
    tables.append(("your settings", compiled(deny, allow).table))
    for origin, table in tables:
        for path, rules in table:
            if path[0] == name:
                yield KnownCommand(origin, " ".join(path), " ".join(notation(path, rules)))


def notation(path: tuple[str, ...], rules: CommandRules) -> Iterator[str]:
    """Yield rules as they are written; ``#n`` counts behind the sub-commands."""
    for flag, rule in rules.flags.items():
        yield f"{flag}{MARKS[rule.separate, rule.glued]}{kind_text(rule)}"
    for place, kind in rules.arguments.items():
        told = "last" if place.startswith("last") else place
        number = f"#{int(told) + 2 - len(path)}" if told.isdigit() else "<" if told == "<" else f"#{told}"
        yield number + ("" if kind == "value" else f"@{kind}")


def kind_text(rule: FlagRule) -> str:
    """Return the kind of a rule as it is written; all of the value is the usual one."""
    return "" if rule.kind == "value" else f"@{rule.kind}"
