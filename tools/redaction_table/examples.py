"""Rules from example commands: behind which flag, or as which argument, a placeholder for a secret stands."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from omnimemory.sources.redaction.shell_words import SimpleCommand, Word, read_commands
from omnimemory.sources.redaction.wrappers import command_name, inner_command, is_assignment
from tools.redaction_table.placeholders import Example, secret_places

__all__ = ["rules_of_examples"]

MARKS = {":": "colon", "%": "percent", ",": "comma"}
SUBCOMMAND = re.compile(r"[a-z][a-z0-9]*(?:[-_:][a-z0-9]+)*")
# Bare words that stand for something rather than being a sub-command.
STANDS_FOR = re.compile(
    r"(?:.*_)?(?:user|username|host|hostname|server|port|name|file|path|address|ip|ip_address|url|target|number|id|"
    r"command|namespace|registry|realm|device|directory|ssid|pages?|profile|repository|vmid|input|output|password)\d?"
)
LOGIN = re.compile(r"(?:[^/:@\s]+[/\\])?[^:@/\s]+:(?P<secret>[^@/]+)(?:@.*)?")
HEADERS = frozenset({"-H", "--header", "-b", "--cookie"})  # read by what is in them
ALTERNATIVE = re.compile(r"(?<=\S)\|(?=\S)")
MAX_SUBCOMMANDS = 3


class Rule(NamedTuple):
    """What one placeholder teaches: the command with its sub-commands, and a rule in the table's notation."""

    path: tuple[str, ...]
    rule: str


def rules_of_examples(examples: Iterable[Example]) -> dict[tuple[str, ...], list[str]]:
    """Return for each command (with its sub-commands) the rules that the examples teach."""
    found: defaultdict[tuple[str, ...], dict[str, None]] = defaultdict(dict)
    for example in examples:
        for rule in rules_of_example(example):
            found[rule.path][rule.rule] = None
    return {path: list(rules) for path, rules in general(found).items()}


def general(found: Mapping[tuple[str, ...], Iterable[str]]) -> dict[tuple[str, ...], list[str]]:
    """Lift a flag that two sub-commands share to the command itself, and drop what this makes needless."""
    shared: defaultdict[tuple[str, str], set[tuple[str, ...]]] = defaultdict(set)
    for path, rules in found.items():
        for rule in rules:
            shared[path[0], rule].add(path[1:2])
    whole: defaultdict[tuple[str, ...], dict[str, None]] = defaultdict(dict)
    for path, rules in found.items():
        for rule in rules:
            lifted = rule.startswith("-") and len(shared[path[0], rule]) > 1
            whole[path[:1] if lifted else path][rule] = None
    return {path: list(rules) for path, rules in sorted(whole.items())}


def rules_of_example(example: Example) -> Iterator[Rule]:
    """Yield the rules of one example."""
    places = secret_places(example)
    if not places:
        return
    line = ALTERNATIVE.sub("/", example.command)  # `json|yaml`: one of them, no pipe
    for command in read_commands(line, 0, len(line)):
        words = command_words(command)
        for index, word in enumerate(words[1:], 1):
            for start, _ in places:
                if word.inner <= start < word.inner + len(word.text):
                    yield from rule_of_word(words, index, start - word.inner)


def command_words(command: SimpleCommand) -> Sequence[Word]:
    """Return the words of the innermost command: ``sudo -u x mysql -p`` is about ``mysql``."""
    words: Sequence[Word] = command.words
    while words and is_assignment(words[0].text):
        words = words[1:]
    step = inner_command([word.text for word in words], frozenset()) if words else None
    return words[step:] if step else words


def rule_of_word(words: Sequence[Word], index: int, offset: int) -> Iterator[Rule]:
    """Yield the rule for a secret at ``words[index].text[offset:]``."""
    name = command_name(words[0].text)
    text, before = words[index].text, words[index - 1].text
    path = (name, *leading_subcommands(words, index))
    login = LOGIN.fullmatch(text)
    if not re.fullmatch(r"[\w.+-]+", name) or " " in text:
        return
    if text.startswith("-"):
        yield from (Rule(path, rule) for rule in rule_of_flag(text, offset))
    elif login and login.start("secret") == offset and ("@" in text or "/" in text[:offset]):
        yield Rule((name,), "#all@login")
    elif before.startswith("-") and "=" not in before and index > 1:
        flag = before.split("/")[-1].strip("[]")
        if flag not in HEADERS:
            yield Rule(path, flag + kind_at(text, offset))
    elif offset == 0:
        yield from rule_of_argument(path, words, index)


def rule_of_flag(text: str, offset: int) -> Iterator[str]:
    """Yield the rule of a flag whose secret stands in the same word: ``--password=X``, ``-pX``."""
    flag, equals, _ = text[:offset].partition("=")
    if equals:
        yield flag + kind_at(text[len(flag) + 1 :], offset - len(flag) - 1)
    elif re.fullmatch("-[A-Za-z]{1,2}", flag):
        yield flag + "!"


def rule_of_argument(path: tuple[str, ...], words: Sequence[Word], index: int) -> Iterator[Rule]:
    """Yield the rule for an argument that is a secret: a keyword before it, or its place."""
    if words[index - 1].text == "password" and index > 1:
        yield Rule(path[:1], "password")
    elif len(path) > 1 and not any(word.text.startswith("-") for word in words[1:index]):
        yield Rule(path, f"#{index - len(path) + 1}")


def kind_at(text: str, offset: int) -> str:
    """Return the kind of a value whose secret starts at ``offset``."""
    if offset == 0:
        return ""
    mark = MARKS.get(text[offset - 1])
    return f"@{mark}" if mark and text.index(text[offset - 1]) == offset - 1 else ""


def leading_subcommands(words: Sequence[Word], index: int) -> Iterator[str]:
    """Yield the sub-commands right behind the command."""
    for word in words[1 : min(index, MAX_SUBCOMMANDS + 1)]:
        if word.quoted or not SUBCOMMAND.fullmatch(word.text) or STANDS_FOR.fullmatch(word.text):
            return
        yield word.text
