"""Secrets that give themselves away, wherever they stand: tokens of known shape, URLs, private keys.

Each shape carries the template of an example (``%kind:length%`` is filled with random text by the
tests, so that no value that looks live is ever written down). The shapes are the providers' published
prefixes and lengths; gitleaks (MIT) served as the list to compare with. Shapes are tried only around long
runs of letters and digits, other expressions are bounded, so a scan is linear in the text.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator

from omnimemory.sources.redaction.spans import Span
from omnimemory.sources.redaction.token_shapes import SHAPES
from omnimemory.sources.redaction.values import is_secret_value, looks_random

__all__ = ["find_private_keys", "find_text_secrets", "find_tokens", "find_url_credentials"]

TOKEN = re.compile("|".join(f"(?P<r{i}>{shape.pattern})" for i, shape in enumerate(SHAPES)))
NAMES = {f"r{i}": shape.name for i, shape in enumerate(SHAPES)}
# Every shape has such a run in it, and few words of a text do: only around them is it worth trying all shapes.
RUN = re.compile(r"[A-Za-z0-9_-]{16,}")
TOKEN_CHARACTERS = string.ascii_letters + string.digits + "_.~:/+=-"
FARTHEST = 40  # characters from the start of a token to the first run in it
WORD_START = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]")
# A run that starts with one of these holds a word that starts behind it: `-pTOKEN`, `\nTOKEN`, `%3DTOKEN`
GLUED = re.compile(r"-[A-Za-z](?=[A-Za-z0-9])|(?<=\\)[nrt]|(?<=%)3[DA]")

URL = re.compile(
    r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,30}://"
    r"(?P<user>[^\s/?#@:'\"`<>\\,;]{0,200})"
    r"(?::(?P<password>[^\s/'\"`<>]{1,400}|[A-Za-z0-9+/=%._~-]{8,200}))?"
    r"@(?!sha256:)"
)
PORT = re.compile(r"[0-9]{1,5}(?:[/?#),;\]]|$)")
KEY_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
KEY_LINES = re.compile(r"(?:[A-Za-z0-9+/=]{16,}+(?:\\[nr]|\s)*+)++(?:[A-Za-z0-9+/]{1,15}={1,2})?")
KEY_EDGE = re.compile(r"(?:\\[nr]|\s)*+")
KEY_RUN = re.compile(r"[A-Za-z0-9+/=]{16}")
LONGEST_KEY = 20_000


def find_text_secrets(text: str) -> Iterator[Span]:
    """Find what is a secret in any kind of text: known tokens, URL credentials, private keys."""
    yield from find_tokens(text)
    if "://" in text:
        yield from find_url_credentials(text)
    if "-----BEGIN" in text:
        yield from find_private_keys(text)


def find_tokens(text: str) -> Iterator[Span]:
    """Find tokens whose shape is known."""
    done = 0
    for run in RUN.finditer(text):
        if run.start() < done:
            continue
        for start in token_starts(text, max(done, run.start() - FARTHEST), run.start()):
            if match := TOKEN.match(text, start):
                done = match.end()
                yield Span(start, done, NAMES[match.lastgroup or "r0"])
                break


def token_starts(text: str, left: int, start: int) -> Iterator[int]:
    """Yield where a token that reaches into the run at ``start`` may begin: at a word glued to its left, or in it."""
    left += len(text[left:start].rstrip(TOKEN_CHARACTERS))
    for word in WORD_START.finditer(text, left, start + 1):
        yield word.start()
    if glued := GLUED.match(text, start):
        yield glued.end()


def find_url_credentials(text: str) -> Iterator[Span]:
    """Find the password (or the token in the place of the user) of ``scheme://user:password@host``."""
    for match in URL.finditer(text):
        password = match["password"] or ""
        if len(match["user"]) >= 20 and looks_random(match["user"]):
            yield Span(*match.span("user"), "url-password")
        if password and not PORT.match(password) and is_secret_value(password):
            yield Span(*match.span("password"), "url-password")


def find_private_keys(text: str) -> Iterator[Span]:
    """Find the bodies of private key blocks; their BEGIN and END lines stay."""
    position = 0
    while begin := KEY_BEGIN.search(text, position):
        start, end = key_bounds(text, begin.end())
        position = max(end, begin.end())
        if end > start:
            yield Span(start, end, "private-key")


def key_bounds(text: str, begin: int) -> tuple[int, int]:
    """Return where the key's text is, without the line breaks (real or escaped) around it."""
    edge = KEY_EDGE.match(text, begin)
    start = edge.end() if edge else begin
    end = text.find("-----END", start, start + LONGEST_KEY)
    if end < 0 or not KEY_RUN.search(text, start, end):
        lines = KEY_LINES.match(text, start, start + LONGEST_KEY)
        end = lines.end() if lines else start
    while end > start and (text[end - 1].isspace() or text[end - 2 : end] in {"\\n", "\\r"}):
        end -= 1 if text[end - 1].isspace() else 2
    return start, end
