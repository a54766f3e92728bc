"""Shell histories: which file, which shell, and what is new in it since the last time.

One module a shell turns bytes into entries; :func:`read_history` reads a file safely and only as far as it is
new; :func:`align` finds the new lines of a rewritten file that has no timestamps.
"""

from __future__ import annotations

from omnimemory.sources.history.align import align
from omnimemory.sources.history.cursor import Cursor
from omnimemory.sources.history.entry import MAX_COMMAND_BYTES, Entries, Entry
from omnimemory.sources.history.locate import locate
from omnimemory.sources.history.resume import HistoryRead, read_history
from omnimemory.sources.history.shells import SHELLS, Shell, detect, shell_named

__all__ = [
    "MAX_COMMAND_BYTES",
    "SHELLS",
    "Cursor",
    "Entries",
    "Entry",
    "HistoryRead",
    "Shell",
    "align",
    "detect",
    "locate",
    "read_history",
    "shell_named",
]
