"""Which options of a manual page carry a secret on the command line, and in which form."""

from __future__ import annotations

import re

from omnimemory.sources.redaction.values import Holds, name_holds
from tools.redaction_table.manual_pages import Option

__all__ = ["kind_of_option"]

PAIRED = (
    ("colon", re.compile(r"(?i)[\w-]+\[:(?:pass|pw)")),
    (
        "colon",
        re.compile(r"(?i)[<\[{]*(?:[\w-]*user\w*|login|name|id)[>\]}]?\[?:\[?[<{]?(?:[\w-]*pass|pw|secret|token)"),
    ),
    ("percent", re.compile(r"(?i)\w*user\w*\[?%\[?pass")),
)
# Its value is about a secret, or says where one is.
ABOUT = re.compile(
    r"(?i)file|path|dir\b|folder|^fd$|descriptor|cmd|command|program|prompt|ur[il]|port|host|address|length|^len|num|"
    r"count|^n$|size|type|method|mode|scheme|algo|cipher|level|date|time|format|name$|^id$|regex|list|provider|slot|"
    r"device|yes|no\b|true|bool|on\|off|source|^arg\d$|charset|encoding|script|helper|index|store|version|seconds|"
    r"^user$|user_?name|login$|^login|spec$|env$|prefix|suffix|modifier|options?$|verification|^PAT$|trust"
)
TOLD = (
    r"(?:pass(?:word|phrase|code|wd)|pass phrase|secret(?: key)?|(?:access|auth\w*|api|bearer|session) (?:token|key)"
    r"|pin(?: code)?)"
)
# "Use PASS as the password for", "The password of the proxy", "Specify the passphrase to decrypt with"
TELLS = re.compile(
    rf"(?i)^(?:\(?\w+\)? ?[:.-] ?)?(?:(?:the|an?|your|its|this|use|uses|used|set|sets|specify|specifies|supply|provide|"
    rf"provides|give|gives|takes?|pass|authenticate|login|log|connect|unlock|encrypt|decrypt|sets?|with|using|as|for|by|"
    rf"option|value|string|given|optional|default|plain|text|user'?s?|database|db|server|account|remote|proxy|smtp|imap|"
    rf"ldap|bind|http|ftp|admin|administrator|master|login|client|basic|new|old|current|private|key|encryption|archive|"
    rf"vnc|snmp|sasl|[A-Z]+) ){{0,6}}{TOLD}\b"
    r"(?! file| from| prompt|-file| hash| length| policy|s? (?:are|is|will) (?:read|not|be))"
)
NOT_GIVEN = re.compile(
    r"(?i)file|prompt|ask\b|asks|stdin|standard input|read (?:the )?pass|number of|length of|environment|descriptor|"
    r"do not|don't|disable|path|interactive|generate|whether|how many|minimum|maximum|dictionary|candidate|crack|guess|"
    r"beginning|^end of|character set|prefix|suffix|modifier|owned|cache|available"
)
OTHER_NAMES = re.compile(r"(?i)(?:new|old|my|your|user)?_?pass(?:w(?:or)?d|phrase)?")
PLAIN_VALUE = re.compile(
    r"(?i)(?:value|str(?:ing)?|text|arg(?:ument)?|key|data|word|code|option|pw|pwd|pass\w*|secret|token|\w{1,2}|foo|bar|xx+|yy+)"
)


def kind_of_option(option: Option) -> str | None:
    """Return the kind of a secret (see the table's notation), ``plain``, ``bare``, or ``None`` when nothing is sure."""
    if option.value is None:
        return "bare"
    value = option.value
    for kind, pattern in PAIRED:
        if pattern.match(value):
            return kind
    names = [name.lstrip("-") for name in option.names]
    long = [name for name in names if len(name) > 2]
    if any(name_holds(name) is Holds.SECRET for name in long):
        return "plain" if ABOUT.search(value) else "value"
    if ABOUT.search(value) or any(ABOUT.search(name) for name in long):
        return "plain"
    about = option.about
    told = TELLS.match(about) and not NOT_GIVEN.search(about[:120]) and PLAIN_VALUE.fullmatch(value)
    named = name_holds(value) is Holds.SECRET or OTHER_NAMES.fullmatch(value)
    # a token is a word of a parser or a card as often as a secret
    return "value" if told or (named and value.lower() != "token") else "plain"
