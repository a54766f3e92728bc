"""Secrets in the words of shell commands: flags, arguments, assignments, headers, standard input.

Every simple command of a line is looked at, also those inside of quotes, substitutions and here-documents
(``ssh host 'mysql -p...'``). Known commands are read by the table, the rest by what their words are called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from omnimemory.sources.redaction.doubtful_words import find_generated
from omnimemory.sources.redaction.flags import CommandRules, CommandTable, FlagRule, is_telling
from omnimemory.sources.redaction.generated import holds_generated, looks_generated
from omnimemory.sources.redaction.named_words import NamedWords
from omnimemory.sources.redaction.shell_words import Region, SimpleCommand, Word, read_commands
from omnimemory.sources.redaction.spans import LONG, Span
from omnimemory.sources.redaction.standard_input import find_fed_secrets, find_written_secrets
from omnimemory.sources.redaction.values import Holds, is_secret_value, name_holds
from omnimemory.sources.redaction.word_parts import find_pairs, secret_part, value_span
from omnimemory.sources.redaction.wrappers import command_name, inner_command, is_assignment

__all__ = ["find_command_secrets"]

MAX_DEPTH = 4  # quotes in quotes
MAX_NESTING = 6  # `sudo env nice ssh host docker exec db mysql`
NO_RULES = CommandRules()
NEXT_FLAG = re.compile(r"-[A-Za-z]?")  # a password may start with a hyphen, but is not that short
LONG_FLAG = re.compile(  # `-port`, not `-p ort`
    r"-(?:p(?:ass(?:word|wd|phrase|ive)?|ort|ath|roxy|roject|rofile|rint|rogress|rotocol|rompt|arams?|lugin)"
    r"|user(?:name)?)(?:[=-]|$)"
)


def find_command_secrets(text: str, table: CommandTable) -> Iterator[Span]:
    """Find the secrets in the words of a command line."""
    telling = is_telling(text)
    pending = [(Region(0, len(text)), 0)]
    while pending:
        region, depth = pending.pop()
        for command in read_commands(text, *region):
            if is_worth_reading(text, command, table, telling=telling):
                yield from SimpleCommandReader(text, command, table).find()
            if depth < (MAX_DEPTH if region.end - region.start < LONG else 1):
                pending += [(inner, depth + 1) for inner in inner_regions(command)]


def is_worth_reading(text: str, command: SimpleCommand, table: CommandTable, *, telling: bool) -> bool:
    """Say whether a simple command can hold a secret; a long line may have many that cannot.

    ``telling`` says whether the line as a whole has a word that secrets come with.
    """
    words, targets = command.words, command.targets
    if not words or (len(words) == 1 and says_nothing(words[0].text) and not is_fed(command)):
        return False
    if telling and is_telling(text[words[0].start : max(words[-1].end, targets[-1].end if targets else 0)]):
        return True
    texts = [word.text for word in words]
    if not table.triggers.isdisjoint(texts) or any(map(holds_generated, texts)):
        return True
    if any(command_name(name) in table.triggers for name in texts if "/" in name or "\\" in name):
        return True
    return any(holds_generated(word.text) for feeder in command.feeders for word in feeder.words[1:4])


def says_nothing(text: str) -> bool:
    """Say whether a command's only word is just its name."""
    return text[:1] != "-" and "=" not in text


def is_fed(command: SimpleCommand) -> bool:
    """Say whether a command has an input or an output that may hold a secret."""
    return bool(command.feeders or command.targets or command.here_strings or command.here_documents)


def inner_regions(command: SimpleCommand) -> Iterator[Region]:
    """Return the parts of a command that are read as lines of their own."""
    yield from command.here_documents
    for words in (command.words, command.here_strings, command.targets):
        for word in words:
            yield from word.regions


class SimpleCommandReader:
    """Looks for secrets in one simple command, the commands that it runs, and what is fed to it."""

    def __init__(self, text: str, command: SimpleCommand, table: CommandTable) -> None:
        self.text = text
        self.command = command
        self.texts = [word.text for word in command.words]
        self.table = table
        self.named = NamedWords(self.texts)

    def find(self) -> Iterator[Span]:
        """Yield what is found."""
        words, texts = self.command.words, self.texts
        rules: list[CommandRules] = []
        start: int | None = skip_assignments(words, 0)
        for word in words[:start]:
            yield from find_assignment(word)
        for _ in range(MAX_NESTING):
            if start is None or start >= len(words):
                break
            found = self.table.find(command_name(texts[start]), texts[start + 1 :]) or NO_RULES
            rules.append(found)
            step = inner_command(texts[start:], self.table.names)
            if len(words) > start + 1:
                yield from self.find_in_arguments(words[start:], found, step)
            start = None if step is None else skip_assignments(words, start + step)
        if self.command.feeders or self.command.here_strings or self.command.here_documents:
            yield from find_fed_secrets(self.text, self.command, rules)
        if self.command.targets:
            yield from find_written_secrets(self.command)

    def find_in_arguments(self, words: Sequence[Word], rules: CommandRules, inner: int | None) -> Iterator[Span]:
        """Find secrets among the arguments of ``words[0]``; a command at ``inner`` reads its own."""
        name = command_name(words[0].text)
        arguments: list[Word] = []
        taken = -1  # index of a word that is the value of the flag before it
        first = 0 if name[:1] == "-" else 1  # documentation writes `-a|--all`: the rest is no command
        for index in range(first, len(words) if inner is None else inner):
            word = words[index]
            match = match_flag(word, rules) if index != taken else None
            if match is not None:
                after = words[index + 1] if index + 1 < len(words) and match.glued is None else None
                taken = index + 1 if after is not None and match.rule.takes_next else taken
                yield from find_by_rule(name, word, after, match)
                continue
            if index != taken and (word.text[:1] != "-" or word.quoted):
                arguments.append(word)
            if index == 0 or self.named.may_tell(word.text, words[index - 1].text):
                yield from self.named.find(name, words, index)
        for place, kind in rules.arguments.items():
            for word in words_at(place, arguments):
                yield from secret_part(word, 0, kind, "argument", f"an argument of {name}, in the table")


def skip_assignments(words: Sequence[Word], start: int) -> int:
    """Return the index of the first word from ``start`` on that is no ``NAME=value``."""
    while start < len(words) and is_assignment(words[start].text) and not words[start].quoted:
        start += 1
    return start


def find_assignment(word: Word) -> Iterator[Span]:
    """Find the secret of a ``NAME=value`` before a command, whose value is all that follows."""
    name, _, value = word.text.partition("=")
    holds = name_holds(name.removesuffix("+"))
    span = value_span(word, len(word.text) - len(value))
    if holds is Holds.NOTHING:
        yield from find_pairs(word, len(name) + 1)
    elif is_secret_value(span.text, literal=span.literal) and (holds is Holds.SECRET or looks_generated(span.text)):
        yield Span(span.start, span.end, "environment", name)


def find_by_rule(name: str, word: Word, after: Word | None, match: FlagMatch) -> Iterator[Span]:
    """Find the secret of a flag that the table knows."""
    rule, why = match.rule, f"{name} {match.flag}, in the table"
    if match.glued is not None:
        yield from secret_part(word, match.glued, rule.kind, "flag", why)
    elif after is None or after.text[:2] == "--" or NEXT_FLAG.fullmatch(after.text):
        return
    elif rule.takes_next:
        yield from secret_part(after, 0, rule.kind, "flag", why)
    elif rule.kind == "value":  # `mysql -p X` asks for it, and takes X for a database: typed by mistake often enough
        yield from find_generated(after, 0)


class FlagMatch(NamedTuple):
    """The rule of a flag and where its glued value starts (``None``: the value is the next word)."""

    rule: FlagRule
    flag: str
    glued: int | None


def match_flag(word: Word, rules: CommandRules) -> FlagMatch | None:
    """Return the rule of a word that is a flag, if there is one."""
    text = word.text
    if not rules.flags:
        return None
    rule = rules.flags.get(text)
    if rule is not None:
        return FlagMatch(rule, text, None)
    name, mark, _ = text.partition("=")
    if mark and (rule := rules.flags.get(name)) is not None:
        return FlagMatch(rule, name, len(name) + 1)
    for length in (2, 3):
        rule = rules.flags.get(text[:length])
        if rule is not None and rule.glued and len(text) > length and text[:2] != "--" and not LONG_FLAG.match(text):
            return FlagMatch(rule, text[:length], length)
    return None


def words_at(place: str, arguments: Sequence[Word]) -> Sequence[Word]:
    """Return the arguments that a place of the table means: an index, the last behind an index, or all."""
    if place == "all":
        return arguments
    if place.startswith("last>"):
        return arguments[-1:] if len(arguments) > int(place[5:]) else ()
    return arguments[int(place) : int(place) + 1] if place.isdigit() else ()
