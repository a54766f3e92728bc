"""Shell lines cut into simple commands and words, with offsets into the line.

Not a shell: it never fails, whatever the text is, and reads in one pass. What it knows is what matters
to find a secret and to leave the rest alone: quotes, escapes, substitutions, pipes and lists, subshells,
redirections, here-strings and here-documents. An unquoted ``&`` inside a word stays in it
(``http://host/?a=1&b=2`` is typed unquoted more often than ``a&b`` is meant).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

__all__ = ["FILTERS", "Region", "SimpleCommand", "Word", "read_commands"]

T = TypeVar("T")
# One step inside a word, outside of double quotes and inside of them. Each alternative starts with
# another character, so nothing is read twice.
STEP = re.compile(
    r"(?P<choice>\[[\w-]{1,40}(?:\|[\w-]{1,40}){1,20}\])|(?P<run>[^\s'\"\\`$|&;()<>{}]+)|(?P<blank>[^\S\n]+)|(?P<newline>\n)|(?P<single>\$?'[^']*'?)|(?P<double>\")"
    r"|(?P<escape>\\(?:.|$))|(?P<tick>`)|(?P<open>[$<>]\(|\()|(?P<close>\))|(?P<brace>\$\{)|(?P<end_brace>\})"
    r"|(?P<inner>(?<=\S)&(?=[^\s&|;()<>]))|(?P<operator>&>>?|&&|\|&|\|\||;;&?|;&|<<<|<<-?|>>|>\||[<>]&|<>|[<>|&;])|(?P<other>.)",
    re.DOTALL,
)
# most words by far; `[a|add]` is documentation's way to say that either will do, no pipe
PLAIN_WORD = re.compile(r"[^\S\n]*((?!\[[\w-]{1,40}(?:\|[\w-]{1,40}){1,20}\])[^\s'\"\\`$|&;()<>{}#]+)(?=[\s|;]|\Z)")
# a command of one word without any marks: nothing in it, and nothing that it could say to the next one
BARE_COMMAND = re.compile(r"(?:[^\S\n]*[A-Za-z0-9_.][A-Za-z0-9_./-]*[^\S\n]*(?:\|[|&]?|&&|;|\n))+(?=[^|&;])")
BLANK = re.compile(r"[^\S\n]*")
DOUBLE_STEP = re.compile(
    r"(?P<run>[^\"\\`$]+)|(?P<double>\")|(?P<escape>\\(?:.|$))|(?P<tick>`)|(?P<open>\$\()|(?P<brace>\$\{)|(?P<other>.)",
    re.DOTALL,
)
# Inside of a substitution only what opens and closes counts.
INNER_STEP = re.compile(
    r"(?P<run>[^'\"\\`$(){}]+)|(?P<single>'[^']*'?)|(?P<double>\")|(?P<escape>\\(?:.|$))|(?P<tick>`)|(?P<open>\$?\()"
    r"|(?P<close>\))|(?P<brace>\$\{)|(?P<end_brace>\})|(?P<other>.)",
    re.DOTALL,
)
CLOSES = {"double": '"', "tick": "`", "open": "(", "brace": "{"}
REDIRECTIONS = frozenset({"<", ">", ">>", "<>", ">|", ">&", "<&", "&>", "&>>"})
# what is said into one of these comes out of it
FILTERS = frozenset({"tr", "base64", "cat", "tee", "sed", "head", "cut", "xxd", "iconv", "jq", "sleep"})
KEYWORDS = frozenset({"then", "else", "elif", "if", "do", "while", "until", "!", "{", "time", "coproc", "#", "--", "}"})


class Region(NamedTuple):
    """A part of the line that is read as a line of its own: ``text[start:end]``."""

    start: int
    end: int


class Word(NamedTuple):
    """A word at ``line[start:end]``; ``text`` is its content at ``inner``, without the quotes around all of it.

    ``literal`` says that the quotes were single ones. ``regions`` are the quoted or substituted parts
    in it that may hold commands themselves.
    """

    start: int
    end: int
    text: str
    inner: int
    literal: bool = False
    quoted: bool = False
    regions: tuple[Region, ...] = ()


class SimpleCommand:
    """A command with its words, what feeds its standard input, and where its output goes.

    A long line has thousands, and most have words only: the rest are empty tuples until there is something.
    """

    __slots__ = ("feeders", "here_documents", "here_strings", "targets", "words")

    def __init__(self, feeders: Sequence[SimpleCommand] = ()) -> None:
        self.words: list[Word] = []
        self.feeders = feeders
        self.here_strings: Sequence[Word] = ()
        self.here_documents: Sequence[Region] = ()
        self.targets: Sequence[Word] = ()

    def says_something(self) -> bool:
        """Say whether its output may be of interest to the next command: one word alone is a name."""
        if len(self.words) > 1 or self.here_strings or self.here_documents:
            return True
        return bool(self.feeders) and bool(self.words) and self.words[0].text.rpartition("/")[2] in FILTERS

    def is_begun(self) -> bool:
        """Say whether anything belongs to the command already."""
        return bool(self.words or self.feeders or self.targets or self.here_strings or self.here_documents)


class LineReader:
    """Reads one region of a line into simple commands."""

    def __init__(self, text: str, start: int, end: int) -> None:
        self.text = text
        self.position = start
        self.end = end
        self.commands: list[SimpleCommand] = []
        self.current = SimpleCommand()
        self.groups: list[int] = []  # index of the first command inside each open parenthesis
        self.closed: list[SimpleCommand] | None = None  # the group that was just closed
        self.heredocs: list[tuple[SimpleCommand, str]] = []

    def read(self) -> list[SimpleCommand]:
        """Return the simple commands of the region, in order."""
        while self.position < self.end:
            if self.skip_bare_commands():
                continue
            if plain := PLAIN_WORD.match(self.text, self.position, self.end):
                start, self.position = plain.span(1)
                word = Word(start, self.position, plain[1], start)
                if self.current.words:
                    self.current.words.append(word)
                else:
                    self.add_word(word)
                continue
            match = STEP.match(self.text, self.position, self.end)
            assert match is not None  # the last alternative takes any character
            kind = match.lastgroup or "other"
            if kind == "blank":
                self.position = match.end()
            elif kind in {"newline", "operator", "open", "close"}:
                self.position = match.end()
                self.separate(match[0])
            else:
                self.add_word(self.read_word())
        self.finish(())
        return self.commands

    def skip_bare_commands(self) -> bool:
        """Pass over commands of one plain word each, if some start here."""
        if self.current.is_begun() or self.closed is not None or self.heredocs:
            return False
        bare = BARE_COMMAND.match(self.text, self.position, self.end)
        if bare is None:
            return False
        self.position = bare.end()
        return True

    def separate(self, mark: str) -> None:
        """Act on what stands between two words or commands."""
        if mark in REDIRECTIONS or mark in {"<<<", "<<", "<<-"}:
            self.redirect(mark)
        elif mark == "(":
            if self.current.words:  # fish, arrays, globs: part of the command's arguments
                self.position -= 1
                self.add_word(self.read_word())
            else:
                self.groups.append(len(self.commands))
        elif mark in {"$(", "<(", ">("}:
            self.position -= 2
            self.add_word(self.read_word())
        elif mark == ")":
            self.finish(())
            self.closed = self.commands[self.groups.pop() :] if self.groups else None
        else:
            self.close_command(mark)

    def close_command(self, mark: str) -> None:
        """End the current command; what follows a pipe is fed by it (or by the group that was closed)."""
        piped = mark in {"|", "|&"}
        group = self.closed if self.closed is not None and not self.current.words else None
        self.finish([command for command in group or [self.current] if command.says_something()] if piped else ())
        self.closed = None
        if mark == "\n":
            self.read_here_documents()

    def finish(self, feeders: Sequence[SimpleCommand]) -> None:
        """Put the current command aside and start the next."""
        current = self.current
        if current.words or current.here_strings or current.here_documents or current.targets:
            self.commands.append(current)
        elif not current.feeders:  # nothing to put aside
            current.feeders = feeders
            return
        self.current = SimpleCommand(feeders=feeders)

    def redirect(self, mark: str) -> None:
        """Read the word behind a redirection."""
        blank = BLANK.match(self.text, self.position, self.end)
        self.position = blank.end() if blank else self.position
        word = self.read_word()
        if not word.end > word.start:
            return
        if mark == "<<<":
            self.current.here_strings = longer(self.current.here_strings, word)
        elif mark in {"<<", "<<-"}:
            self.heredocs.append((self.current, word.text.strip("'\"\\")))
        elif ">" in mark:
            self.current.targets = longer(self.current.targets, word)

    def read_here_documents(self) -> None:
        """Take the lines of the here-documents that were announced on the line before."""
        for command, delimiter in self.heredocs:
            start = self.position
            while self.position < self.end:
                newline = self.text.find("\n", self.position, self.end)
                line_end = newline if newline >= 0 else self.end
                line = self.text[self.position : line_end]
                body_end, self.position = self.position, min(line_end + 1, self.end)
                if line.strip() == delimiter:
                    break
            else:
                body_end = self.end
            command.here_documents = longer(command.here_documents, Region(start, body_end))
        self.heredocs = []

    def add_word(self, word: Word) -> None:
        """Add a word to the current command; a keyword starts the command anew."""
        text = word.text
        if text.isdigit() and self.text[word.end : word.end + 1] in {"<", ">"}:
            return
        if not self.current.words and text in KEYWORDS:
            return
        if text == "#" or (text.endswith("()") and not self.current.words):
            self.close_command(";")
            return
        self.current.words.append(word)
        self.closed = None

    def read_word(self) -> Word:
        """Read the word that starts here, quotes and substitutions included."""
        text, start, end = self.text, self.position, self.end
        position = start
        stack: list[str] = []
        opened = start
        regions: list[Region] = []
        while position < end:
            step = STEP if not stack else DOUBLE_STEP if stack[-1] == '"' else INNER_STEP
            match = step.match(text, position, end)
            assert match is not None  # the last alternative takes any character
            kind = match.lastgroup or "other"
            if not stack and kind in {"blank", "newline", "operator", "close"}:
                break
            position = match.end()
            if kind == "single":
                if not stack:
                    regions.append(Region(match.start() + match[0].index("'") + 1, position - match[0].endswith("'")))
            elif stack and closes(kind, stack[-1]):
                stack.pop()
                if not stack:
                    regions.append(Region(opened, position - 1))
            elif kind in CLOSES:
                if not stack:
                    opened = position
                stack.append(CLOSES[kind])
        if stack:
            regions.append(Region(opened, end))
        self.position = position
        return make_word(text, start, position, regions)


def longer(items: Sequence[T], item: T) -> list[T]:
    """Return a list with one more item: the same one, once it is a list."""
    grown = items if isinstance(items, list) else list(items)
    grown.append(item)
    return grown


def closes(kind: str, opener: str) -> bool:
    """Say whether a step of this kind ends what ``opener`` began."""
    return (kind, opener) in {("double", '"'), ("tick", "`"), ("close", "("), ("end_brace", "{")}


def make_word(text: str, start: int, end: int, regions: list[Region]) -> Word:
    """Make a word, without the quotes when one pair of them encloses all of it."""
    if text[start:end][:1] in {"'", '"', "$"} and len(regions) == 1:
        inner, inner_end = regions[0]
        quote = text[inner - 1]
        whole = inner - start <= 1 + (text[start] == "$") and inner_end >= end - 1
        if quote in "'\"" and whole:
            return Word(start, end, text[inner:inner_end], inner, quote == "'", True, worth_reading(text, regions))
    return Word(start, end, text[start:end], start, regions=worth_reading(text, regions) if regions else ())


def worth_reading(text: str, regions: list[Region]) -> tuple[Region, ...]:
    """Keep the regions that hold more than one word."""
    return tuple(
        region
        for region in regions
        if " " in text[region.start : region.end] or "\n" in text[region.start : region.end]
    )


def read_commands(text: str, start: int, end: int) -> list[SimpleCommand]:
    """Return the simple commands of ``text[start:end]``; offsets are into ``text``."""
    return LineReader(text, start, end).read()
