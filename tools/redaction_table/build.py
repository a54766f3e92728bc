"""The tables that are shipped: made from example commands and from manual pages, in the notation of ``flags.py``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from omnimemory.sources.redaction.flags import CommandRules, CommandTable
from omnimemory.sources.redaction.values import Holds, name_holds
from tools.redaction_table.examples import rules_of_examples
from tools.redaction_table.manual_pages import ManualPage
from tools.redaction_table.placeholders import Example
from tools.redaction_table.secret_options import kind_of_option

__all__ = ["table_of_examples", "table_of_pages"]

LINE_LENGTH = 118
# Flags that are taken for a password when nothing is known about the command: worth knowing that they are none.
AMBIGUOUS = frozenset({"-p", "-P", "-w", "-pw", "-pass"})
MANY = 40  # a page that gives more options than that to a secret was misread


def table_of_examples(examples: Iterable[Example], own: CommandTable) -> Iterator[str]:
    """Yield the lines of the table that example commands teach, without what ``own`` knows already."""
    rules = {
        path: [rule for rule in found if is_needed(path, rule, own)]
        for path, found in rules_of_examples(examples).items()
    }
    yield from lines_of(rules)


def is_needed(path: Sequence[str], rule: str, own: CommandTable) -> bool:
    """Say whether a rule tells something that neither the flag's name nor the table written by hand tells."""
    flag = rule.partition("@")[0].rstrip("*!=")
    if says_secret(flag) and "@" not in rule:
        return False
    return not any(
        knows(rules, flag) for known, rules in own if known[0] == path[0] and known[1:] == path[1 : len(known)]
    )


def knows(rules: CommandRules, flag: str) -> bool:
    """Say whether rules written by hand speak of a flag or of any argument."""
    return bool(rules.arguments) if flag.startswith("#") else flag in rules.flags


def says_secret(flag: str) -> bool:
    """Say whether a flag's name alone says that its value is a secret."""
    return flag.startswith("-") and len(flag) > 3 and name_holds(flag.lstrip("-")) is Holds.SECRET


def table_of_pages(pages: Iterable[ManualPage], own: CommandTable) -> Iterator[str]:
    """Yield the lines of the table that manual pages teach, without what ``own`` knows already."""
    found: defaultdict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for page in pages:
        kinds = kinds_of_page(page)
        if sum(kind not in {"plain", "bare"} for kind in kinds.values()) > MANY:
            continue
        for name in page.names:
            for flag, kind in kinds.items():
                before = found[tuple(name.split())].get(flag)
                if before is None or before in {"plain", "bare"}:
                    found[tuple(name.split())][flag] = kind
    rules = {
        path: [noted(flag, kind, kinds) for flag, kind in sorted(kinds.items()) if is_needed(path, flag + "@", own)]
        for path, kinds in found.items()
    }
    yield from lines_of(rules)


def kinds_of_page(page: ManualPage) -> dict[str, str]:
    """Return what is worth knowing of a page's flags: how one carries a secret, or that a doubtful one carries none."""
    kinds: dict[str, str] = {}
    for option in page.options:
        kind = kind_of_option(option)
        for flag in option.names:
            if is_telling(flag, kind) and kinds.get(flag, "plain") in {"plain", "bare"}:
                kinds[flag] = kind
    return kinds


def is_telling(flag: str, kind: str) -> bool:
    """Say whether to note that a flag has this kind."""
    if kind in {"plain", "bare"}:
        return flag in AMBIGUOUS
    return kind != "value" or not says_secret(flag)


def noted(flag: str, kind: str, kinds: Mapping[str, str]) -> str:
    """Return a rule in the table's notation; a short flag may have its value glued on unless longer ones look alike."""
    if kind != "value":
        return f"{flag}@{kind}"
    glued = len(flag) == 2 and not any(other.startswith(flag) and other != flag for other in kinds)
    return flag + "*" * glued


def lines_of(rules: Mapping[tuple[str, ...], Sequence[str]]) -> Iterator[str]:
    """Yield one line for each set of rules, with all commands that share it."""
    shared: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for path, found in sorted(rules.items()):
        if found:
            shared[tuple(found)].append(" ".join(path))
    for found, names in sorted(shared.items(), key=lambda item: item[1]):
        yield from wrapped(f"{', '.join(names)} | {' '.join(found)}")


def wrapped(line: str) -> Iterator[str]:
    """Yield a line in pieces; all but the first are indented."""
    while len(line) > LINE_LENGTH:
        cut = line.rfind(" ", 8, LINE_LENGTH)
        if cut < 8:
            break
        yield line[:cut]
        line = "    " + line[cut + 1 :]
    yield line
