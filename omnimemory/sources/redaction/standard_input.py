"""Secrets that a command reads from its standard input: ``echo secret | docker login --password-stdin``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from omnimemory.sources.redaction.flags import CommandRules
from omnimemory.sources.redaction.generated import holds_generated
from omnimemory.sources.redaction.shell_words import FILTERS, SimpleCommand, Word
from omnimemory.sources.redaction.spans import Span
from omnimemory.sources.redaction.values import Holds, is_secret_value, name_holds
from omnimemory.sources.redaction.wrappers import command_name

__all__ = ["find_fed_secrets", "find_written_secrets"]

SPEAKERS = frozenset({"echo", "printf", "print", "yes", "Write-Output"})
ASKS = re.compile(
    r"--?password-stdin|--stdin-password|--with-token"
    r"|--pass(?:phrase|wd)?-(?:fd|stdin|on-stdin)|(?:file|pass):stdin|-pass\w* stdin"
)
READS_COLON = re.compile(r"\bchpasswd\b")
SUDO_STDIN = re.compile(r"-[A-Za-z]*S[A-Za-z]*|--stdin")
ASKING_WORDS = frozenset({
    "login", "unlock", "load-key", "signin", "luksOpen", "luksFormat", "luksAddKey", "luks", "change-password", "join",
})  # fmt: skip
ASKING_NAME = re.compile(r"(?:[a-z][a-z0-9-]*-|[a-z]*)(?:passwd|password|passphrase|keystore|secrets?)2?")
NEVER_ASK = frozenset({
    "grep", "egrep", "rg", "ag", "awk", "sed", "cat", "less", "tr", "cut", "jq", "test", "[", "echo", "printf", "wc",
    "sort", "mail", "git", "xargs", "parallel", "tee",
})  # fmt: skip
ESCAPED_ENDS = re.compile(r"(?:\\[nrt])+$")
SPEAKER_FLAG = re.compile(r"-[neErN]+|--")
DECODES = re.compile(r"(?i)b(?:ase)?(?:32|58|64)|decode")
ONE_WORD = re.compile(r"[^\s/:;|<>(){}]{8,200}")
LINE = re.compile(r"[^\n]+")
MAX_FEEDERS = 20


def find_fed_secrets(text: str, command: SimpleCommand, rules: Sequence[CommandRules]) -> Iterator[Span]:
    """Yield what is fed to a command that reads a secret from its standard input."""
    feeders = [command, *feeders_of(command)]
    said = [word for feeder in feeders[1:] for word in said_words(feeder)]
    said += command.here_strings
    documents = [document for feeder in feeders for document in feeder.here_documents]
    kind = input_kind(text, command, rules) if said or documents else None
    if kind is None:
        return
    for word in said:
        yield from spoken(word, kind)
    for start, end in documents:
        yield from document_lines(text, start, end, kind)


def input_kind(text: str, command: SimpleCommand, rules: Sequence[CommandRules]) -> str | None:
    """Return how the command's standard input is a secret, ``generated`` if only a word that looks so is one."""
    words = [word.text for word in command.words]
    start, end = command.words[0].start, command.words[-1].end
    if READS_COLON.search(text, start, end):
        return "stdin-colon"
    if ASKS.search(text, start, end) or (text.find("sudo", start, end) >= 0 and sudo_asks(words)):
        return "stdin"
    names = {command_name(word) for word in words}
    for rule in rules:
        if "<" in rule.arguments:
            return None if rule.arguments["<"] == "plain" else rule.arguments["<"]
        for flag, how in rule.flags.items():
            if how.kind.startswith("stdin") and flag in words:
                return how.kind
    return None if not names.isdisjoint(NEVER_ASK) else probable_kind(names, words)


def probable_kind(names: set[str], words: Sequence[str]) -> str | None:
    """Return how a command that nothing is known about takes what it is fed."""
    if not ASKING_WORDS.isdisjoint(words[1:]) or any(map(ASKING_NAME.fullmatch, names)):
        return "stdin"
    return None if names & FILTERS or any(map(DECODES.search, words)) else "generated"


def sudo_asks(words: Sequence[str]) -> bool:
    """Say whether ``sudo -S`` reads the password from standard input, here or in a quoted command."""
    if "sudo" in words:
        for word in words[words.index("sudo") + 1 :]:
            if not word.startswith("-"):
                break
            if SUDO_STDIN.fullmatch(word):
                return True
    return any("sudo -S" in word for word in words)


def find_written_secrets(command: SimpleCommand) -> Iterator[Span]:
    """Yield what is written to a file whose name says that it holds a secret: ``echo secret > ~/.pgpass``."""
    if not any(is_secret_file(target.text) for target in command.targets):
        return
    said = said_words(command)
    if len(said) == 1 and (":" in said[0].text or " " not in said[0].text) and "=" not in said[0].text:
        yield from spoken(said[0], "stdin-colon" if ":" in said[0].text else "stdin", last=True)


def is_secret_file(path: str) -> bool:
    """Say whether a file is called like a secret: ``.pgpass``, ``db_password.txt``, ``~/.vault-token``."""
    return name_holds(path.rsplit("/", 1)[-1].lstrip(".").partition(".")[0]) is Holds.SECRET


def feeders_of(command: SimpleCommand) -> Iterator[SimpleCommand]:
    """Yield the commands whose output reaches ``command``, through filters too."""
    pending = list(command.feeders)
    for _ in range(MAX_FEEDERS):
        if not pending:
            return
        feeder = pending.pop()
        yield feeder
        if feeder.words and command_name(feeder.words[0].text) in FILTERS:
            pending += feeder.feeders


def said_words(feeder: SimpleCommand) -> list[Word]:
    """Return what an ``echo`` or ``printf`` says: its words without its flags and its format."""
    if not feeder.words or command_name(feeder.words[0].text) not in SPEAKERS:
        return []
    words = feeder.words[1:]
    while words and words[0].text[:1] == "-" and SPEAKER_FLAG.fullmatch(words[0].text):
        words = words[1:]
    is_format = feeder.words[0].text == "printf" and len(words) > 1 and "%" in words[0].text
    return words[1:] if is_format else words


def spoken(word: Word, kind: str, *, last: bool = False) -> Iterator[Span]:
    """Yield the secret in a word that is spoken into a command: all of it, or what follows a (the last) colon."""
    text = word.text
    start = (text.rfind(":") if last else text.find(":")) + 1 if kind == "stdin-colon" else 0
    text = ESCAPED_ENDS.sub("", text)
    if (
        (kind == "stdin-colon" and not start)
        or text[start:].lower() in {"y", "n"}
        or not is_secret_value(text[start:], literal=word.literal)
        or (kind == "generated" and not (ONE_WORD.fullmatch(text) and holds_generated(text)))
    ):
        return
    rule = "generated" if kind == "generated" else "stdin"
    yield Span(word.inner + start, word.inner + len(text), rule, "said into a command")


def document_lines(text: str, start: int, end: int, kind: str) -> Iterator[Span]:
    """Yield the secret in each line of a here-document."""
    for match in LINE.finditer(text, start, end):
        line = match[0]
        offset = line.find(":") + 1 if kind == "stdin-colon" else 0
        if (offset or kind == "stdin") and is_secret_value(line[offset:].strip()):
            yield Span(match.start() + offset, match.end(), "stdin")
