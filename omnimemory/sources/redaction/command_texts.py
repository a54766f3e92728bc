"""Secrets of a command line that are found in its text rather than in its words: headers, JSON, SQL, queries."""

from __future__ import annotations

import re
from collections.abc import Iterator

from omnimemory.sources.redaction.generated import looks_generated
from omnimemory.sources.redaction.spans import Span
from omnimemory.sources.redaction.values import Holds, is_secret_value, name_holds

__all__ = ["find_quoted_secrets"]

SCHEMES = frozenset({
    "bearer", "basic", "token", "apikey", "api-key", "digest", "negotiate", "ssws", "key", "pat", "jwt", "oauth",
    "bot", "aws4-hmac-sha256",
})  # fmt: skip
AUTHORIZATION = re.compile(
    r"authorization\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']?(?:(?P<scheme>"
    + "|".join(sorted(SCHEMES))
    + r")\s{1,3})?(?P<value>[^\s'\"\\,;`]+)",
    re.IGNORECASE,
)
BEARER = re.compile(r"\bbearer[\s:]{1,3}(?P<value>[A-Za-z0-9._~+/=-]{16,4000})", re.IGNORECASE)
FIELD = re.compile(  # "name": "value", also with escaped quotes and with a bare name
    r"(?<![A-Za-z0-9_-])(?P<name>[A-Za-z_][A-Za-z0-9_.-]{0,60}+)\\?[\"']?\]?\s{0,4}(?::|=>)\s{0,4}"
    r"(?:\\\"(?P<escaped>[^\"\\]*+)|\"(?P<double>(?:[^\"\\]|\\.)*+)\"|'(?P<single>[^']*+)')",
    re.DOTALL,
)
QUERY = re.compile(r"[?&](?P<name>[A-Za-z_][A-Za-z0-9_.-]{0,60}+)=(?P<value>[^&\s'\"#;|<>()`\\]+)")
QUERY_NAMES = frozenset({"sig", "signature", "auth", "code", "key"})
SQL = re.compile(
    r"\b(?:alter|create|set|grant)\b(?P<middle>[^;]{0,160}?)\b(?:password|identified\s{1,3}by)\b[\s=(]{0,4}(?:for\s{1,3}\S{1,80}\s{0,3}=\s{0,3})?"
    r"(?:password\()?(?:\\?[\"'](?:\\'')?)(?P<value>[^'\"\\\s;]+)",
    re.IGNORECASE,
)
QUOTED = re.compile(  # name = "value", in any language, and PowerShell's $env:NAME = "value"
    r"(?<![A-Za-z0-9_.$-])(?:\$env:)?(?P<name>[A-Za-z_][A-Za-z0-9_.]{0,60}+)\s{0,3}=\s{0,3}(?P<quote>\\?[\"'])(?P<value>[^\"'\\\s]+)(?P=quote)"
)
CALL = re.compile(  # set_password("value")
    r"(?<![A-Za-z0-9_])(?P<name>[A-Za-z_][A-Za-z0-9_]{0,60}+)\(\s{0,3}(?P<quote>\\?[\"'])(?P<value>[^\"'\\\s:]{4,})(?P=quote)"
)
PRAGMA = re.compile(r"\bpragma\s{1,3}(?:re|hex)?key\s{0,3}=\s{0,3}\\?[\"']?(?P<value>[^'\"\s;]+)", re.IGNORECASE)
NETRC = re.compile(r"\blogin\s{1,3}\S{1,100}\s{1,3}password\s{1,3}(?P<value>[^\s'\"]+)")
EXPECT = re.compile(r"\bsend\s{1,3}(?:--\s{1,3})?\\?[\"{](?P<value>[^\"{}\\\s]+)\\{1,2}[rn]")
YAML = re.compile(
    r"^[ \t-]{0,40}(?P<name>[A-Za-z_][\w.-]{0,60}+):[ \t]{1,4}(?P<value>[^\s'\"#{\[|>&*!][^\s'\"]*)[ \t]*(?=$|['\"])",
    re.MULTILINE,
)


def find_quoted_secrets(text: str) -> Iterator[Span]:
    """Find secrets by the text around them."""
    lowered = text.lower()
    if "authorization" in lowered:
        yield from in_pattern(AUTHORIZATION, text, "header")
    if "bearer" in lowered:
        yield from in_pattern(BEARER, text, "header")
    if ":" in text or "=>" in text:
        yield from find_fields(text)
    if "=" in text:
        yield from find_query(text)
        yield from find_quoted_values(QUOTED, text)
    if "(" in text:
        yield from find_quoted_values(CALL, text)
    if "password" in lowered or "identified" in lowered:
        yield from in_pattern(SQL, text, "sql")
        yield from in_pattern(NETRC, text, "netrc")
    if "pragma" in lowered:
        yield from in_pattern(PRAGMA, text, "sql")
    if "send" in lowered and "expect" in lowered:
        yield from in_pattern(EXPECT, text, "expect")


def in_pattern(pattern: re.Pattern[str], text: str, rule: str) -> Iterator[Span]:
    """Yield the ``value`` of each match that can be a secret."""
    for match in pattern.finditer(text):
        known = match.groupdict().get("scheme") or match["value"].lower() not in SCHEMES
        if known and is_secret_value(match["value"]):
            yield Span(*match.span("value"), rule)


def find_fields(text: str) -> Iterator[Span]:
    """Find secrets of JSON objects and their like, and of YAML lines."""
    for match in FIELD.finditer(text):
        group = match.lastgroup or "double"
        holds = name_holds(match["name"])
        value = match[group]
        if holds and value and is_secret_value(value) and (holds is Holds.SECRET or looks_generated(value)):
            yield Span(*match.span(group), "field")
    if "\n" not in text and "echo" not in text and "printf" not in text:
        return
    for match in YAML.finditer(text):
        if name_holds(match["name"]) is Holds.SECRET and is_secret_value(match["value"]):
            yield Span(*match.span("value"), "field")


def find_query(text: str) -> Iterator[Span]:
    """Find secrets in the query of a URL or in form data."""
    for match in QUERY.finditer(text):
        holds = name_holds(match["name"])
        value = match["value"]
        telling = holds is Holds.SECRET or (looks_generated(value) and (holds or match["name"] in QUERY_NAMES))
        if telling and is_secret_value(value):
            yield Span(*match.span("value"), "query")


def find_quoted_values(pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    """Find secrets in quotes that are assigned with blanks around the sign, or handed to a function."""
    for match in pattern.finditer(text):
        if (
            match["name"] not in {"pwd", "getpass"}
            and name_holds(match["name"]) is Holds.SECRET
            and is_secret_value(match["value"])
        ):
            yield Span(*match.span("value"), "assignment")
