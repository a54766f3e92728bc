"""A user's own rules: what else is a secret (``deny``), and what is none whatever the built-in rules say (``allow``).

Each rule is a text in one of three forms:

=========================== =========================================================================
``/EXPRESSION/``            a regular expression (Python's), for all texts. Deny: whatever it matches is a
                            secret. Allow: a find that matches it as a whole is none
``COMMAND ... | FLAG ...``  a line of the table of commands, see :mod:`omnimemory.sources.redaction.flags`.
                            Deny: these flags and arguments hold secrets. Allow: these flags hold none
``rule:NAME``               allow only: switch a built-in rule off, by the name that ``[REDACTED:NAME]`` shows
=========================== =========================================================================

``allow`` wins over ``deny``, and both over the built-in rules.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from omnimemory.sources.redaction.flags import CommandRules, CommandTable, FlagRule
from omnimemory.sources.redaction.rule_names import RULES
from omnimemory.sources.redaction.spans import Finder, Span

__all__ = ["CompiledRules", "compiled"]

LONGEST = 500  # characters of an expression
FORMS = "Write /EXPRESSION/, or COMMAND | FLAG ..., or (to allow) rule:NAME"


@dataclass(frozen=True, slots=True)
class CompiledRules:
    """Own rules ready for use: table lines to add, expressions to find, and what to let pass."""

    table: CommandTable
    secrets: tuple[re.Pattern[str], ...]
    harmless: tuple[re.Pattern[str], ...]
    switched_off: frozenset[str]

    def applied_to(self, find: Finder) -> Finder:
        """Return a finder that also finds what these rules deny, and leaves out what they allow."""

        def find_all(text: str) -> Iterator[Span]:
            for span in (*self.denied(text), *find(text)):
                value = text[span.start : span.end]
                if span.rule not in self.switched_off and not any(known.fullmatch(value) for known in self.harmless):
                    yield span

        return find_all

    def denied(self, text: str) -> Iterator[Span]:
        """Find what the expressions match."""
        for pattern in self.secrets:
            for match in pattern.finditer(text):
                yield Span(*match.span(), "own", f"/{pattern.pattern}/")


@lru_cache(maxsize=16)
def compiled(deny: Sequence[str], allow: Sequence[str]) -> CompiledRules:
    """Read own rules; one that is wrong raises ``ValueError`` naming its list, its number and the fix."""
    table: dict[tuple[str, ...], CommandRules] = {}
    secrets: list[re.Pattern[str]] = []
    harmless: list[re.Pattern[str]] = []
    off: set[str] = set()
    for name, rules, expressions in (("deny", deny, secrets), ("allow", allow, harmless)):
        for number, rule in enumerate(rules, 1):
            try:
                read_rule(rule, name, table, expressions, off)
            except ValueError as error:
                raise ValueError(f"{name}, rule {number}: {error}") from None
    return CompiledRules(CommandTable(table), tuple(secrets), tuple(harmless), frozenset(off))


def read_rule(
    rule: str,
    name: str,
    table: dict[tuple[str, ...], CommandRules],
    expressions: list[re.Pattern[str]],
    off: set[str],
) -> None:
    """Read one rule of the list ``name``."""
    if rule[:1] == rule[-1:] == "/" and len(rule) > 2:
        expressions.append(expression(rule))
    elif rule.startswith("rule:"):
        off.add(known_rule(rule, name))
    elif "|" in rule:
        for path, rules in CommandTable.parse([rule.strip()]):
            table[path] = table.get(path, CommandRules()).joined(harmless_rules(rules) if name == "allow" else rules)
    else:
        raise ValueError(f"{rule!r:.80} has none of the forms of a rule. {FORMS}.")


def expression(rule: str) -> re.Pattern[str]:
    """Read ``/EXPRESSION/``."""
    if len(rule) > LONGEST:
        raise ValueError(f"the expression {rule!r:.40} is longer than {LONGEST} characters")
    try:
        pattern = re.compile(rule[1:-1])
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{rule!r:.80} is no regular expression: {error}") from None
    if pattern.match(""):
        raise ValueError(f"{rule!r:.80} matches an empty text, so it would match everywhere: use + instead of *")
    return pattern


def known_rule(rule: str, name: str) -> str:
    """Read ``rule:NAME``."""
    switched = rule.removeprefix("rule:").strip()
    if name == "deny":
        raise ValueError(f"{rule!r:.80}: a built-in rule is on already; only `allow` names one, to switch it off")
    if switched not in RULES:
        close = difflib.get_close_matches(switched, RULES, 1)
        raise ValueError(
            f"there is no rule {switched!r:.60}"
            + (f": did you mean {close[0]}?" if close else ". `omnimemory redact --rules` lists them")
        )
    return switched


def harmless_rules(rules: CommandRules) -> CommandRules:
    """Return rules that say of the same flags and arguments that they hold no secret."""
    flags = {
        flag: rule if rule.kind == "bare" else FlagRule("plain", separate=rule.separate, glued=rule.glued)
        for flag, rule in rules.flags.items()
    }
    return CommandRules(flags, dict.fromkeys(rules.arguments, "plain"))
