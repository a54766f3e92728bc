"""Secrets in the words of shell commands: flags, arguments, assignments, headers, standard input.

Every simple command of a line is looked at, also those inside of quotes, substitutions and here-documents
(``ssh host 'mysql -p...'``). Known commands are read by the table, the rest by what their words are called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from omnimemory.sources.redaction.flags import HINT, CommandRules, CommandTable, FlagRule
from omnimemory.sources.redaction.named_words import NamedWords
from omnimemory.sources.redaction.shell_words import Region, SimpleCommand, Word, read_commands
from omnimemory.sources.redaction.spans import LONG, Span
from omnimemory.sources.redaction.standard_input import find_fed_secrets, find_written_secrets
from omnimemory.sources.redaction.values import Holds, is_secret_value, looks_random, name_holds
from omnimemory.sources.redaction.word_parts import find_pairs, secret_part, value_span
from omnimemory.sources.redaction.wrappers import command_name, inner_command, is_assignment

__all__ = ["find_command_secrets"]

MAX_DEPTH = 4  # quotes in quotes
MAX_NESTING = 6  # `sudo env nice ssh host docker exec db mysql`
NO_RULES = CommandRules()
LONG_FLAG = re.compile(  # `-port`, not `-p ort`
    r"-(?:p(?:ass(?:word|wd|phrase|ive)?|ort|ath|roxy|roject|rofile|rint|rogress|rotocol|rompt|arams?|lugin)"
    r"|user(?:name)?)(?:[=-]|$)"
)


def find_command_secrets(text: str, table: CommandTable) -> Iterator[Span]:
    """Find the secrets in the words of a command line."""
    pending = [(Region(0, len(text)), 0)]
    while pending:
        region, depth = pending.pop()
        for command in read_commands(text, *region):
            texts = [word.text for word in command.words]
            if texts and is_worth_reading(text, command, texts, table):
                yield from SimpleCommandReader(text, command, texts, table).find()
            if depth < (MAX_DEPTH if region.end - region.start < LONG else 1):
                pending += [(inner, depth + 1) for inner in inner_regions(command)]


def is_worth_reading(text: str, command: SimpleCommand, texts: Sequence[str], table: CommandTable) -> bool:
    """Say whether a simple command can hold a secret; a long line may have many that cannot."""
    end = max(command.words[-1].end, command.targets[-1].end if command.targets else 0)
    if HINT.search(text, command.words[0].start, end):
        return True
    if not table.triggers.isdisjoint(texts):
        return True
    return any(command_name(name) in table.triggers for name in texts if "/" in name or "\\" in name)


def inner_regions(command: SimpleCommand) -> Iterator[Region]:
    """Return the parts of a command that are read as lines of their own."""
    yield from command.here_documents
    for words in (command.words, command.here_strings, command.targets):
        for word in words:
            yield from word.regions


class SimpleCommandReader:
    """Looks for secrets in one simple command, the commands that it runs, and what is fed to it."""

    def __init__(self, text: str, command: SimpleCommand, texts: Sequence[str], table: CommandTable) -> None:
        self.text = text
        self.command = command
        self.texts = texts
        self.table = table
        self.named = NamedWords(texts)

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
        for index in range(1, len(words) if inner is None else inner):
            word = words[index]
            rule, glued = match_flag(word, rules) if index != taken else (None, None)
            if rule is not None:
                after = words[index + 1] if index + 1 < len(words) and rule.takes_next and glued is None else None
                taken = index + 1 if after is not None else taken
                yield from find_by_rule(word, after, rule, glued)
                continue
            if index != taken and (word.text[:1] != "-" or word.quoted):
                arguments.append(word)
            if self.named.may_tell(word.text, words[index - 1].text):
                yield from self.named.find(name, words, index)
        for place, kind in rules.arguments.items():
            for word in words_at(place, arguments):
                yield from secret_part(word, 0, kind, "argument")


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
    elif is_secret_value(span.text, literal=span.literal) and (holds is Holds.SECRET or looks_random(span.text)):
        yield Span(span.start, span.end, "environment")


def find_by_rule(word: Word, after: Word | None, rule: FlagRule, glued: int | None) -> Iterator[Span]:
    """Find the secret of a flag that the table knows."""
    if glued is not None:
        yield from secret_part(word, glued, rule.kind, "flag")
    elif after is not None and after.text[:2] != "--" and after.text not in {"-", "-p", "-u"}:
        yield from secret_part(after, 0, rule.kind, "flag")


def match_flag(word: Word, rules: CommandRules) -> tuple[FlagRule | None, int | None]:
    """Return the rule of a flag and where its glued value starts (``None``: the value is the next word)."""
    text = word.text
    if not rules.flags:
        return None, None
    rule = rules.flags.get(text)
    if rule is not None:
        return rule, None
    name, mark, _ = text.partition("=")
    if mark and (rule := rules.flags.get(name)) is not None:
        return rule, len(name) + 1
    for length in (2, 3):
        rule = rules.flags.get(text[:length])
        if rule is not None and rule.glued and len(text) > length and text[:2] != "--" and not LONG_FLAG.match(text):
            return rule, length
    return None, None


def words_at(place: str, arguments: Sequence[Word]) -> Sequence[Word]:
    """Return the arguments that a place of the table means: an index, the last behind an index, or all."""
    if place == "all":
        return arguments
    if place.startswith("last>"):
        return arguments[-1:] if len(arguments) > int(place[5:]) else ()
    return arguments[int(place) : int(place) + 1] if place.isdigit() else ()
