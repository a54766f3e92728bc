"""Which flag or argument of which command holds a secret: the table's structure and its notation.

One line of the notation is ``commands | rules``; a command may be followed by its sub-commands::

    mysql mysqldump | -p! --password=        # names separated by blanks share their rules
    docker login | -p* --password --password-stdin@stdin
    rabbitmqctl change_password | #2         # the second argument behind the sub-command

A rule is ``flag[*|!|=][@kind]``. Without a mark the secret is the next word (or follows ``=``); ``*`` also
takes it glued on (``-pX``), ``!`` only glued on, ``=`` only behind the equals sign. Instead of a flag ``#n``
means the n-th argument that is no flag (``#last`` the last one, ``#all`` each of them), and a plain word is a
keyword before its value (``password X``). Kinds:

========== =====================================================================
``value``  all of it (the default)
``plain``  takes a value that is no secret (so it is neither one nor an argument)
``bare``   takes no value, whatever its name sounds like
``colon``  what follows the first colon (``user:password``); also ``percent``, ``comma``, ``slash``
``login``  the password of ``[domain/]user:password[@host]``
``pairs``  the value of each ``NAME=value``, whatever the names are
``source`` what follows ``pass:`` (openssl: ``file:``, ``env:`` ... only refer to a secret)
``cookie`` all of it if it holds ``=`` (else it is a file)
``stdin``  with this flag (or always: ``<@stdin``, ``<@stdin-colon``), standard input is the secret
========== =====================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from omnimemory.sources.redaction.generated import holds_generated

__all__ = ["CommandRules", "CommandTable", "FlagRule", "is_telling"]

# What makes a line worth reading word by word: a telling name, a user with a password.
TELLING = (
    "pass", "pwd", "pw", "psk", "secret", "token", "key", "auth", "cred", "bearer", "cookie", "jwt", "identified",
    "login", "sudo", "expect", "user", "otp",
)  # fmt: skip
TELLING_WORD = re.compile("|".join(TELLING))
SHORT = 150  # characters
TELLING_MARK = re.compile(r"-S\b|[?&]sig|-(?:u|U|p|P|w|pw)\b|:[^\s:@/]+@")
NAME = re.compile(r"\w[\w.-]*")
HARMLESS = frozenset({"plain", "bare"})
KINDS = frozenset({
    "value", "plain", "bare", "colon", "percent", "comma", "slash", "login", "pairs", "source", "cookie", "stdin",
    "stdin-colon", "random",
})  # fmt: skip
MARKS = {"*": (True, True), "!": (False, True), "=": (False, False)}


def is_telling(text: str) -> bool:
    """Say whether a text has a word or a mark in it that secrets come with."""
    lowered = text.lower()
    if len(text) >= SHORT:  # one pass for each word is faster than one that tries all words everywhere
        return any(word in lowered for word in TELLING) or TELLING_MARK.search(text) is not None
    return (TELLING_WORD.search(lowered) or TELLING_MARK.search(text)) is not None


class FlagRule(NamedTuple):
    """How a flag carries its secret: in the next word (``separate``), glued on (``glued``), behind ``=`` always."""

    kind: str = "value"
    separate: bool = True
    glued: bool = False

    @property
    def takes_next(self) -> bool:
        """Whether the value of the flag may be the next word."""
        return self.separate and self.kind not in {"bare", "stdin", "stdin-colon"}


@dataclass(frozen=True, slots=True)
class CommandRules:
    """The rules of one command or sub-command: flags by name, arguments by position."""

    flags: Mapping[str, FlagRule] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)

    def joined(self, other: CommandRules) -> CommandRules:
        """Return both rules together; those of ``other`` win."""
        return CommandRules({**self.flags, **other.flags}, {**self.arguments, **other.arguments})

    def needs_name(self, path: Sequence[str]) -> bool:
        """Say whether a line these rules are for may be one that only the command's name makes worth reading."""
        if is_telling(" ".join(path)):
            return False
        arguments = any(kind not in HARMLESS for kind in self.arguments.values())
        return arguments or any(
            rule.kind not in HARMLESS and (rule.glued or not is_telling(f" {flag} "))
            for flag, rule in self.flags.items()
        )

    def behind(self, words: int) -> CommandRules:
        """Return the rules with argument ``#n`` turned into its index behind so many sub-command words."""
        places = {
            str(int(place) - 1 + words) if place.isdigit() else f"last>{words}" if place == "last" else place: kind
            for place, kind in self.arguments.items()
        }
        return CommandRules(self.flags, places)


class CommandTable:
    """Commands and sub-commands with their rules; immutable once built. The rules of ``above`` win over its own."""

    def __init__(self, rules: Mapping[tuple[str, ...], CommandRules], above: CommandTable | None = None) -> None:
        self._rules: dict[str, list[tuple[tuple[str, ...], CommandRules]]] = {}
        for path, rule in sorted(rules.items(), key=lambda item: len(item[0])):
            self._rules.setdefault(path[0], []).append((path[1:], rule))
        self.above = above
        self.names: frozenset[str] = frozenset(self._rules)
        self.triggers: frozenset[str] = frozenset(path[0] for path, rule in rules.items() if rule.needs_name(path))
        if above is not None:
            self.names |= above.names
            self.triggers |= above.triggers

    def may_hold_secret(self, line: str) -> bool:
        """Say whether a line is worth reading word by word; it is cheap, and most lines are not."""
        if is_telling(line) or not self.triggers.isdisjoint(NAME.findall(line)):
            return True
        return holds_generated(line)

    @classmethod
    def parse(cls, lines: Iterable[str]) -> CommandTable:
        """Read a table in the notation above; a line that is wrong raises ``ValueError`` and is quoted."""
        table: dict[tuple[str, ...], CommandRules] = {}
        for line in joined_lines(lines):
            heads, bar, body = line.partition("|")
            if not bar or not heads.strip() or not body.strip():
                raise ValueError(f"not a rule line: {line!r}. Write: command [sub-command], ... | flag ...")
            rules = parse_rules(body.split(), line)
            for head in heads.split(","):
                path = tuple(head.split())
                table[path] = table.get(path, CommandRules()).joined(rules.behind(len(path) - 1))
        return cls(table)

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], CommandRules]]:
        """Yield each command (with its sub-commands) and its rules."""
        for name, entries in self._rules.items():
            for path, rules in entries:
                yield (name, *path), rules

    def find(self, name: str, arguments: Sequence[str]) -> CommandRules | None:
        """Return the rules for a command: its own and those of the sub-commands among the arguments."""
        found = None if self.above is None else self.above.find(name, arguments)
        for path, rules in reversed(self._rules.get(name, ())):
            if not path or is_within(path, arguments):
                found = rules if found is None else rules.joined(found)
        return found


def joined_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines without comments and blank ones, each with the indented lines that continue it."""
    current = ""
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        if line[0].isspace():
            current += " " + line.strip()
            continue
        if current:
            yield current
        current = line.strip()
    if current:
        yield current


def parse_rules(items: Iterable[str], line: str) -> CommandRules:
    """Read the right side of a line."""
    flags: dict[str, FlagRule] = {}
    arguments: dict[str, str] = {}
    for item in items:
        name, _, kind = item.partition("@")
        kind = kind or "value"
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r} in {line!r}. Known: {', '.join(sorted(KINDS))}")
        if name.startswith("#") or name == "<":
            arguments[name.lstrip("#")] = kind
        elif name[-1] in MARKS:
            flags[name[:-1]] = FlagRule(kind, *MARKS[name[-1]])
        else:
            flags[name] = FlagRule(kind)
    return CommandRules(flags, arguments)


def is_within(path: Sequence[str], words: Sequence[str]) -> bool:
    """Say whether the words of ``path`` occur among ``words`` in this order (flags may stand between)."""
    rest = iter(words)
    return all(part in rest for part in path)
