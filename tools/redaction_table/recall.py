"""How many secrets of tools that the table has never seen are found: half of the examples teach, the others ask.

Tools are split, not lines: all examples of a tool are in the same half. The placeholders for secrets in the other half
are filled with random text, and a line counts as found when none of its secrets is left.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from omnimemory.sources.redaction import Redactor
from omnimemory.sources.redaction.command_table import table_lines
from omnimemory.sources.redaction.flags import CommandTable
from omnimemory.sources.redaction.shell_words import read_commands
from tools.redaction_table.build import table_of_examples
from tools.redaction_table.placeholders import Example, filled, secret_places

__all__ = ["FILLS", "Half", "halves", "is_named", "left_in", "with_secrets"]

LETTERS_AND_DIGITS = string.ascii_letters + string.digits
CHOSEN = ("Summer", "hunter", "Dragon", "letmein", "Winter", "monkey")


def drawn(alphabet: str, least: int, most: int) -> Callable[[random.Random], str]:
    """Return a maker of random texts of ``least`` to ``most`` characters."""
    return lambda rand: "".join(rand.choice(alphabet) for _ in range(rand.randint(least, most)))


FILLS: Mapping[str, Callable[[random.Random], str]] = MappingProxyType(
    {
        "letters and digits": drawn(LETTERS_AND_DIGITS, 8, 32),
        "with - and _": drawn(LETTERS_AND_DIGITS + "-_", 16, 43),
        "with punctuation": drawn(LETTERS_AND_DIGITS + "!@#%^*+.", 8, 24),
        "hexadecimal": drawn("0123456789abcdef", 32, 64),
        "small letters": drawn(string.ascii_lowercase, 8, 32),
        "chosen by a person": lambda rand: f"{rand.choice(CHOSEN)}{rand.randint(10, 9999)}{rand.choice('!#x')}",
    }
)


class Half(NamedTuple):
    """The tables that the training half makes, and the examples with secrets of the tools in the other half.

    ``whole`` is what would be shipped, ``made`` the same without the table that was written by hand.
    """

    whole: CommandTable
    made: CommandTable
    held_out: list[Example]


def with_secrets(examples: Sequence[Example]) -> list[Example]:
    """Return the examples that have a place for a secret."""
    return [example for example in examples if secret_places(example)]


def tool_of(example: Example) -> str:
    """Return the tool an example is about: ``git`` for the page ``git-push``."""
    return example.page.partition("-")[0]


def halves(examples: Sequence[Example], seed: int) -> Half:
    """Split the tools whose examples have secrets in two halves and learn from one."""
    tools = sorted({tool_of(example) for example in with_secrets(examples)})
    random.Random(seed).shuffle(tools)
    known = set(tools[: len(tools) // 2])
    train = [example for example in examples if tool_of(example) in known]
    manual, own = table_lines("manual"), table_lines("commands")
    return Half(
        CommandTable.parse([*manual, *table_of_examples(train, CommandTable.parse(own)), *own]),
        CommandTable.parse([*manual, *table_of_examples(train, CommandTable({}))]),
        [example for example in with_secrets(examples) if tool_of(example) not in known],
    )


def is_named(example: Example, table: CommandTable) -> bool:
    """Say whether a table knows a command of the example at all."""
    commands = read_commands(example.command, 0, len(example.command))
    return any(word.text in table.names for command in commands for word in command.words[:3])


def left_in(examples: Sequence[Example], table: CommandTable, fill: str, seed: int) -> list[str]:
    """Return the redacted lines in which a secret is left."""
    rand, redactor = random.Random(seed), Redactor(table=table)
    left = []
    for example in examples:
        values = [FILLS[fill](rand) for _ in secret_places(example)]
        found = redactor.command(filled(example, values)).text
        if any(value in found for value in values):
            left.append(found)
    return left
