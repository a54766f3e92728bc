"""What a name says about its value, and whether a value can be a secret at all.

Names are read in parts (``adminPassword``, ``DB_PASSWORD``, ``x-api-key`` alike). A value that only *refers*
to a secret (a variable, a command substitution, a file) is no secret and stays, so that the history
keeps teaching how a tool is used.
"""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache

from omnimemory.sources.redaction.spans import MASK

__all__ = ["Holds", "is_secret_value", "looks_like_path", "looks_random", "name_holds"]


class Holds(IntEnum):
    """How sure a name is to hold a secret."""

    NOTHING = 0
    PERHAPS = 1  # only if the value looks random
    SECRET = 2


TELLING = re.compile(
    r"(?i:pass|pw|psw|psk|secret|token|key|jwt|pat|bearer|auth|cred|cookie|sig|webhook|salt|pin|otp|mnemonic|seed|licen[cs]e|unlock)"
)
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
SECRET_ENDINGS = (
    "password", "passwd", "passwort", "passphrase", "passcode", "secret", "token", "apikey", "authkey", "secretkey",
    "accesskey", "passwrd", "userpass", "dbpass",
)  # fmt: skip
SECRET_PARTS = frozenset({
    "pass", "pw", "pwd", "pswd", "psw", "psk", "passkey", "jwt", "pat", "bearer", "requirepass", "passin", "passout",
})  # fmt: skip
NO_SECRET_PARTS = frozenset({
    "bypass", "compass", "trespass", "surpass", "encompass", "multipass", "underpass", "overpass",
})  # fmt: skip
SECRET_KEYS = frozenset({
    "api", "access", "secret", "account", "auth", "shared", "storage", "subscription", "consumer", "client",
    "license", "licence", "app", "application", "admin", "write", "ingest", "functions", "system",
})  # fmt: skip
PERHAPS_PARTS = frozenset({
    "key", "auth", "credential", "credentials", "creds", "cookie", "signature", "sig", "webhook", "salt", "pin",
    "authorization", "otp", "totp", "mnemonic", "seed", "license", "licence", "unlock",
})  # fmt: skip
# `--ask-pass`, `--show-token`: something done with it
VERBS = frozenset({
    "ask", "no", "not", "prompt", "show", "keep", "save", "remember", "with", "require", "generate", "gen", "allow",
    "forgot", "enable", "disable", "add", "stdin", "skip", "without", "ignore", "print", "hide", "has", "is", "use",
    "need", "reset", "rotate", "list", "disabled",
})  # fmt: skip
# `existingSecret`, `max_token`, `next_token`: not one that opens anything
QUALITIES = frozenset({
    "existing", "max", "min", "num", "next", "starting", "continuation", "eos", "bos", "pad", "mask", "special",
    "unk", "sep", "cls", "public", "pub", "idempotency", "websocket", "surrogate", "cache", "partition", "foreign",
})  # fmt: skip
# what follows the word when the value is about a secret: `--password-file`, `SECRET_NAME`
ABOUT = frozenset({
    "file", "files", "path", "dir", "directory", "url", "uri", "name", "names", "id", "ids", "arn", "ref", "type",
    "length", "len", "size", "ttl", "timeout", "expiry", "expiration", "expires", "duration", "policy", "stdin", "fd",
    "prompt", "env", "var", "cmd", "command", "helper", "manager", "store", "storage", "provider", "endpoint",
    "server", "port", "count", "limit", "budget", "format", "algorithm", "alg", "field", "header", "label", "bucket",
    "version", "status", "required", "enabled", "sock", "socket", "agent", "parallelism", "regex", "pattern",
    "lifetime", "issuer", "audience", "scope", "scopes", "user", "username", "email", "location", "source", "program",
    "app", "service", "namespace", "key",
})  # fmt: skip

NO_SECRET = frozenset({
    "true", "false", "yes", "no", "none", "null", "nil", "undefined", "on", "off", "0", "1", "stdin", "prompt",
    "redacted", "ask", "interactive", "required", "optional", "enabled", "disabled", "never", "always", "auto",
    "default",
})  # fmt: skip
MASKED = frozenset("*!xX.#-_?•" + MASK)
REFERENCE = re.compile(r"(?:file|env|fd|vault|op|keyring|ssm|secretsmanager|arn|sops|keychain):", re.IGNORECASE)
EXPANSION = re.compile(
    r"\$\{[^}]*\}?|\$\([^)]*\)?|`[^`]*`?|\$[A-Za-z_][A-Za-z0-9_:]*|\$[0-9@*#?!$-]|[<>]\([^)]*\)?|\{\{[^}]*\}?\}?"
)
VARIABLE = re.compile(r"\$\{?[A-Z_][A-Z0-9_]*\}?|%[A-Za-z_]\w*%|<[^<>]*>|\[[a-z _-]+\]|\.\.\.|\{\w+\}")
GENERATED = re.compile(r"[A-Za-z0-9+/=_.~-]+")
HEXADECIMAL = re.compile(r"(?=[a-fA-F]*[0-9])(?=[0-9]*[a-fA-F])(?:[0-9a-f]{24,}|[0-9A-F]{24,})")
SEPARATED = re.compile(r"[-_.~=]")
CHANGE = re.compile(r"[a-z](?=[A-Z0-9])|[A-Z](?=[0-9])|[0-9](?=[A-Za-z])|[A-Z](?=[a-z])")
MIXED = re.compile(r"(?=.*[0-9])(?=.*[a-z])(?=.*[A-Z])")
PATH = re.compile(r"(?:~|\.{1,2})/|[A-Za-z]:\\|~$|[A-Za-z_.-]+(?:/[A-Za-z_.-]+)+/?$")
FILE_NAME = re.compile(
    r"[\w.@+/-]+\.(?:txt|pem|key|json|ya?ml|env|crt|cer|p12|pfx|jks|asc|gpg|cfg|conf|ini|toml|pw|pass|sh|py|xml|enc|csv|log|md)"
)


@lru_cache(maxsize=4096)
def name_holds(name: str) -> Holds:
    """Say whether something called ``name`` holds a secret."""
    if not TELLING.search(name):
        return Holds.NOTHING
    parts = [part.lower() for part in PART.findall(name)]
    if not parts or parts[0] in VERBS or not QUALITIES.isdisjoint(parts) or name in {"PWD", "OLDPWD"}:
        return Holds.NOTHING
    if part_holds(parts, len(parts) - 1):
        return Holds.SECRET
    if parts[-1] in PERHAPS_PARTS:
        return Holds.PERHAPS
    # DB_PASSWORD_PROD, SECRET_KEY_BASE: environment names put what it is for behind it
    if parts[-1] not in ABOUT and name.isupper() and any(part_holds(parts, i) for i in range(len(parts) - 1)):
        return Holds.SECRET
    return Holds.NOTHING


def part_holds(parts: list[str], i: int) -> bool:
    """Say whether the i-th part of a name (with the one before it) names a secret."""
    part = parts[i]
    if part == "key":
        return i > 0 and parts[i - 1] in SECRET_KEYS
    if part.endswith(("pass", "pw")):
        return part not in NO_SECRET_PARTS
    return part in SECRET_PARTS or part.endswith(SECRET_ENDINGS)


def is_secret_value(value: str, *, literal: bool = False) -> bool:
    """Say whether ``value`` can be a secret; ``literal`` when it stood in single quotes (``$`` is a dollar)."""
    if value.lower() in NO_SECRET or MASKED.issuperset(value):
        return False
    if VARIABLE.fullmatch(value) or REFERENCE.match(value) or looks_like_path(value):
        return False
    if literal or ("$" not in value and "`" not in value and "(" not in value and "{{" not in value):
        return True
    rest = sum(character.isalnum() for character in EXPANSION.sub("", value))
    return rest >= 3 or (rest > 0 and value[0] not in "$`<>{(")


def looks_like_path(value: str) -> bool:
    """Say whether the value names a file rather than being one's content."""
    if value[:1] == "@":
        value = value[1:]
    if PATH.match(value) or FILE_NAME.fullmatch(value):
        return True
    return value[:1] == "/" and not ("=" in value or "+" in value or any(map(is_mixed, value.split("/"))))


def is_mixed(word: str) -> bool:
    """Say whether a part of a path has capitals, small letters and digits all in one: base64, no file name."""
    return len(word) >= 8 and word.isalnum() and MIXED.match(word) is not None


def looks_random(word: str) -> bool:
    """Say whether a word reads like a generated secret: hexadecimal, or letters and digits mixed."""
    if len(word) < 16 or not GENERATED.fullmatch(word):
        return False
    if HEXADECIMAL.fullmatch(word):
        return True
    longest = max(SEPARATED.split(word), key=len)
    return len(longest) >= 12 and len(CHANGE.findall(longest)) >= max(5, len(longest) // 4)
