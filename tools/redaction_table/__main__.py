"""Make the tables that are shipped: ``python -m tools.redaction_table --examples FILE --packages FOLDER``.

From the root of a checkout, with the manual pages of Debian 12 (facts only: which flag takes a password)::

    mkdir /tmp/packages
    list=$PWD/tools/redaction_table/packages.txt; (cd /tmp/packages && xargs -n 50 apt-get download < "$list")
    python -m tools.redaction_table --packages /tmp/packages --examples ../shared/data/tldr/dev.tsv

``manual.table`` and ``letters.table`` come from the pages, ``tldr.table`` from the examples (CC-BY-4.0, see NOTICE);
what is not given stays as it is. Rules that ``commands.table`` (written by hand) knows are left out. The same inputs
make the same tables, byte for byte.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from omnimemory.sources.redaction.flags import CommandTable
from tools.redaction_table.build import table_of_examples, table_of_pages
from tools.redaction_table.letters import letter_pairs
from tools.redaction_table.manual_pages import read_page
from tools.redaction_table.placeholders import read_examples
from tools.redaction_table.sources import pages_of_folder, pages_of_packages

TABLES = Path(__file__).resolve().parents[2] / "omnimemory" / "sources" / "redaction"
ABOUT_PAGES = "# Facts from the manual pages of Debian packages: which flag takes a secret, and which does not."
ABOUT_LETTERS = (
    "# How usual a pair of letters is: a row for the first, a digit for the second. Counted in manual pages."
)
ABOUT_EXAMPLES = (
    "# From the examples of tldr-pages (https://tldr.sh), CC-BY-4.0, (c) the tldr-pages authors and contributors;\n"
    "# changed: only the flags and places of secrets were taken."
)
MADE = "# Made by `python -m tools.redaction_table`; do not edit, write into commands.table instead."


def main(arguments: list[str]) -> int:
    """Make the tables whose sources are given."""
    given = parser().parse_args(arguments)
    own = CommandTable.parse((TABLES / "commands.table").read_text(encoding="utf-8").splitlines())
    if given.packages is not None or given.pages is not None:
        found = pages_of_packages(given.packages) if given.packages else pages_of_folder(given.pages)
        sources = list(found)
        write(given.output / "manual.table", ABOUT_PAGES, table_of_pages((read_page(*page) for page in sources), own))
        write(given.output / "letters.table", ABOUT_LETTERS, letter_pairs(page.text for page in sources))
        print(f"{len(sources):,} manual pages read")
    if given.examples is not None:
        examples = read_examples(given.examples)
        write(given.output / "tldr.table", ABOUT_EXAMPLES, table_of_examples(examples, own))
        print(f"{len(examples):,} examples read")
    return 0


def write(path: Path, about: str, lines: Iterable[str]) -> None:
    """Write one table."""
    path.write_text("\n".join([about, MADE, "", *lines]) + "\n", encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """Return the reader of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m tools.redaction_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--packages", type=Path, metavar="FOLDER", help="folder of .deb files whose pages are read")
    made.add_argument("--pages", type=Path, metavar="FOLDER", help="folder of manual pages, instead of packages")
    made.add_argument("--examples", type=Path, metavar="FILE", help="tab-separated page, description, command")
    made.add_argument("--output", type=Path, metavar="FOLDER", default=TABLES, help="where the tables are written")
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
