"""``redaction``: how many secrets of unseen tools are found, how many other commands are touched, and what it costs.

Tools whose examples have secrets are split in two halves, several times; one half teaches the table, the secrets of
the other are filled with random text and looked for. Other commands are the examples that no word or mark for a
secret is in. The slowest line is searched among 20 kB of each of many fragments, and of random mixtures of them.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator, Sequence

from benchmarks.options import Options
from benchmarks.table import Row, at_least, at_most, shown, skipped
from benchmarks.timing import Spread, say
from omnimemory.sources.redaction import Redactor
from tools.redaction_table.placeholders import Example, read_examples
from tools.redaction_table.recall import FILLS, halves, is_named, left_in

__all__ = ["run"]

LENGTH = 20_000  # characters of a long line
MOST_MS = 50
ABOUT_SECRETS = re.compile(
    r"(?i)passw|passphrase|passcode|secret|token|(?:api|access|private|server|subscription).?key|pwd|auth|hash|://\S*:\S*@"
)
FRAGMENTS = (
    *(
        "a",
        "a ",
        "'",
        '"',
        "`",
        "\\",
        "\\'",
        '\\"',
        "=",
        "a=b ",
        "KEY=",
        "--a=b ",
        "$(",
        "${",
        "(",
        ")",
        "))",
        "{",
        "}",
    ),
    *("|", "a|b", "[a|", "[a|b] ", ";", "&&a", "||a", "\n", "E\n", "#", "# a ", "<<E\n", "cat <<E\na\nE\n", "<<<'a' "),
    *('ssh h "', "sh -c '", "ssh h ssh h ", "sudo sh -c \"ssh h '", "sudo ", "env A=1 ", "docker exec c ", "-- "),
    *("mysql -pa;", "$(mysql -pa) ", "\nmysql -p a\n", "-u a -p b ", "curl -u a:b ", "set a ", "login a ", "x@y:z"),
    *("-t x9Kd2mZq ", "x9Kd2mZq ", "x9Kd2mZq:", "u:x9Kd2mZq@h ", "echo x9Kd2mZq|f|", "echo a|su|", "-opw|-upw a "),
    *("password=a,", '"password":"', "&password=", "Authorization: ", "http://a:b@", "://", "eyJ", "sk-", "aA1-"),
    *("[REDACTED:flag]", "yaml: a\n", "create password ", "identified by ", 'send "', "\x00", "\uffff", "é", "~"),
)


def run(options: Options) -> Iterator[Row]:
    """Measure recall and touched commands on ``options.tldr``, and the costs on generated lines."""
    if options.tldr is None or not options.tldr.exists():
        yield skipped("redaction", f"there is no {options.tldr}" if options.tldr else "--tldr PATH is not given")
    else:
        examples = read_examples(options.tldr)
        yield from _recall(examples, options.turns(10))
        yield _touched(examples)
        yield _usual_cost(examples, options.turns())
    yield _slowest(options.turns(3), FRAGMENTS[:: 20 if options.quick else 1], options.size(200, 2))


def _recall(examples: list[Example], splits: int) -> Iterator[Row]:
    parts = [halves(examples, seed) for seed in range(splits)]
    for fill in FILLS:
        say(f"redaction: {fill}")
        whole, made, new = [], [], []
        for seed, part in enumerate(parts):
            unnamed = [example for example in part.held_out if not is_named(example, part.whole)]
            whole.append(1 - len(left_in(part.held_out, part.whole, fill, seed)) / max(1, len(part.held_out)))
            made.append(1 - len(left_in(part.held_out, part.made, fill, seed)) / max(1, len(part.held_out)))
            new.append(1 - len(left_in(unnamed, part.whole, fill, seed)) / max(1, len(unnamed)))
        for what, found in (("all tables", whole), ("without the one by hand", made), ("named in no table", new)):
            title = f"held-out tools, {what}, secrets of {fill}"
            row = Row(
                "redaction", title, shown(Spread.of([100 * share for share in found]), " %"), data={"found": found}
            )
            judged = what == "all tables" and fill == "letters and digits"
            yield at_least(row, 80, 100 * min(found)) if judged else row


def _touched(examples: list[Example]) -> Row:
    others = sorted({example.command for example in examples if not ABOUT_SECRETS.search(example.command)})
    redactor = Redactor()
    touched = [line for line in others if redactor.command(line).counts]
    share = 100 * len(touched) / max(1, len(others))
    row = Row("redaction", "other commands touched", f"{len(touched)} of {len(others):,}", data={"touched": touched})
    return at_most(row, 0.2, share)


def _usual_cost(examples: list[Example], rounds: int) -> Row:
    redactor, costs = Redactor(), []
    for _ in range(rounds):
        start = time.process_time()
        for example in examples:
            redactor.command(example.command)
        costs.append((time.process_time() - start) / max(1, len(examples)) * 1e6)
    return Row("redaction", "CPU time of an example", shown(Spread.of(costs), " us"), data={"us": costs})


def _slowest(rounds: int, fragments: Sequence[str], mixtures: int) -> Row:
    redactor, worst = Redactor(), (0.0, "")
    redactor.command("mysql -p")  # reads the tables
    for line in _long_lines(fragments, mixtures):
        costs = []
        for _ in range(rounds):
            start = time.process_time()
            redactor.command(line)
            costs.append((time.process_time() - start) * 1e3)
        worst = max(worst, (min(costs), line[:40]))
    row = Row(
        "redaction", "slowest line of 20 kB, CPU time", f"{worst[0]:.1f} ms", repr(worst[1]), data={"ms": worst[0]}
    )
    return at_most(row, MOST_MS, worst[0])


def _long_lines(fragments: Sequence[str], mixtures: int) -> Iterator[str]:
    for before in ("", "password ", "mysql "):
        for fragment in fragments:
            yield (before + fragment * (LENGTH // len(fragment) + 1))[:LENGTH]
    for size in (500, 4_000, 8_000):  # quotes in quotes are read at each depth
        for fragment in fragments:
            yield (f"ssh h \"a 'b `c $( {fragment * (size // len(fragment))} )` ' \" " * (LENGTH // size))[:LENGTH]
    rand = random.Random(1)
    for _ in range(mixtures):
        chosen = rand.sample(fragments, 4)
        yield "".join(rand.choice(chosen) for _ in range(LENGTH))[:LENGTH]
