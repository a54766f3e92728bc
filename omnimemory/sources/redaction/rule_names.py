"""The names of the rules, as ``[REDACTED:name]`` shows them, and what each looks for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from omnimemory.sources.redaction.token_shapes import SHAPES

__all__ = ["RULES"]

GENERAL = {
    "argument": "an argument that holds a secret in this place of this command, by the table",
    "assignment": "NAME=value whose name says that it holds a secret",
    "environment": "a variable before a command, or exported, whose name says so",
    "expect": "what an expect script sends",
    "field": "a field of JSON or YAML whose name says so",
    "flag": "the value of a flag that holds a secret, by the table or by its name",
    "generated": "a value that looks generated, behind a flag or a command that secrets stand behind",
    "header": "an authorization header, a cookie, or a header whose name says so",
    "netrc": "the password of a netrc line",
    "own": "a rule of your own (redaction.deny)",
    "private-key": "the body of a private key",
    "query": "a parameter of a URL whose name says so",
    "setting": "the value of a setting whose name says so",
    "sql": "a password in an SQL statement",
    "stdin": "what is fed to a command that reads a password from its standard input",
    "url-password": "the password (or the token) in a URL",
    "user-password": "the password of user:password, by itself or in user:password@host",
}
RULES: Mapping[str, str] = MappingProxyType(
    {
        **GENERAL,
        **{shape.name: f"{shape.name.replace('-', ' ')}, known by its shape" for shape in SHAPES},
    }
)
