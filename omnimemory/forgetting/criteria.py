"""What is to be forgotten: conditions that all have to hold, checked before anything is touched."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from os import PathLike, fspath
from typing import Any

from omnimemory.errors import ConfigError
from omnimemory.ingest.notes import SOURCE as NOTES
from omnimemory.ingest.paths import path_uri, root_paths
from omnimemory.search import KINDS

__all__ = ["Criteria", "Pattern", "Time", "check_any", "make_criteria"]

Time = float | str | datetime
Pattern = str | re.Pattern[str]

REGEX = "re:"
_EXAMPLE = "For example: forget(pattern='hunter2'), forget(source='notes/old.md'), forget(query='my divorce', k=5)."


@dataclass(frozen=True, slots=True)
class Criteria:
    """Conditions that all have to hold; ``None`` is no condition.

    ``contains`` tells whether a text matches the pattern. ``ids`` are public ids by kind. ``source`` and ``cwd``
    are names of which one is to be the name itself or a folder above it. ``after`` (included) and ``before``
    (excluded) are seconds since the epoch. ``words`` are texts that the caller used to describe what is to go.
    """

    kinds: tuple[str, ...] = KINDS
    contains: Callable[[str], bool] | None = None
    ids: Mapping[str, frozenset[str]] | None = None
    source: tuple[str, ...] | None = None
    cwd: tuple[str, ...] | None = None
    after: float | None = None
    before: float | None = None
    words: tuple[str, ...] = ()

    @property
    def picks_events(self) -> bool:
        """Whether single executions are chosen, not commands as such."""
        return self.source is not None or self.cwd is not None or self.is_timed

    @property
    def is_timed(self) -> bool:
        """Whether a time range is given."""
        return self.after is not None or self.before is not None

    @property
    def takes_whole_sources(self) -> bool:
        """Whether everything from the sources goes, so that they themselves go as well."""
        return self.source is not None and self.contains is None and self.ids is None and not self._only_commands

    @property
    def _only_commands(self) -> bool:
        return self.cwd is not None or self.is_timed

    def wants(self, kind: str) -> bool:
        """Return whether items of a kind can match: only commands were run somewhere, at some time."""
        return kind in self.kinds and (kind == "commands" or not self._only_commands)


def make_criteria(
    *,
    pattern: Pattern | None,
    source: str | PathLike[str] | None,
    before: Time | None,
    after: Time | None,
    cwd: str | PathLike[str] | None,
    ids: str | Sequence[str] | None,
    kind: str | None,
) -> Criteria:
    """Return the criteria that a caller gave. Raises :class:`ConfigError` for what makes no sense."""
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"There is no kind {kind!r}. Choose one of {', '.join(KINDS)}.")
    if kind == "documents" and any(value is not None for value in (before, after, cwd)):
        raise ConfigError("Only commands have a time and a folder they were run in: leave out kind='documents'.")
    made = Criteria(
        kinds=KINDS if kind is None else (kind,),
        contains=None if pattern is None else _contains(pattern),
        ids=None if ids is None else _ids(ids),
        source=None if source is None else _names(source, "source"),
        cwd=None if cwd is None else _names(cwd, "cwd"),
        after=None if after is None else _seconds(after, "after"),
        before=None if before is None else _seconds(before, "before"),
        words=() if pattern is None else (pattern if isinstance(pattern, str) else pattern.pattern,),
    )
    if made.after is not None and made.before is not None and made.after >= made.before:
        raise ConfigError("after must be earlier than before: what was run from after on, up to before, is forgotten.")
    return made


def check_any(given: Sequence[Any]) -> None:
    """Raise :class:`ConfigError` if nothing was given that says what is to be forgotten."""
    if all(value is None for value in given):
        raise ConfigError(f"Say what to forget: query, pattern, source, before, after, cwd or ids. {_EXAMPLE}")


def _contains(pattern: Pattern) -> Callable[[str], bool]:
    if isinstance(pattern, re.Pattern):
        return lambda text: pattern.search(text) is not None
    if not isinstance(pattern, str) or not pattern.strip():
        raise ConfigError("The pattern is empty: give a part of the text, or re: and a regular expression.")
    if not pattern.startswith(REGEX):
        wanted = pattern.casefold()
        return lambda text: wanted in text.casefold()
    try:
        expression = re.compile(pattern.removeprefix(REGEX))
    except re.error as error:
        raise ConfigError(f"The pattern is no regular expression: {error}.") from error
    return lambda text: expression.search(text) is not None


def _ids(ids: str | Sequence[str]) -> dict[str, frozenset[str]]:
    given = [ids] if isinstance(ids, str) else list(ids)
    if not given or not all(isinstance(name, str) and name for name in given):
        raise ConfigError(f"ids are texts, as search gives them; got {ids!r:.80}.")
    return dict.fromkeys(KINDS, frozenset(given))


def _names(place: str | PathLike[str], what: str) -> tuple[str, ...]:
    # What was given may be the name itself (notes, or a folder on another machine) or a path that leads there.
    (path,) = root_paths([place])
    name = fspath(place)
    if not name.strip():
        raise ConfigError(f"The {what} is empty.")
    if what == "source" and place == NOTES:
        return (NOTES,)  # and not a folder that happens to have this name: that is ./notes
    return tuple(dict.fromkeys((name, path_uri(path))))


def _seconds(time: Time, what: str) -> float:
    moment: Any = time
    if isinstance(time, str):
        try:
            moment = datetime.fromisoformat(time.strip())
        except ValueError as error:
            raise ConfigError(f"{what} is no date: write 2024-05-31 or 2024-05-31T18:30, not {time!r:.80}.") from error
    if isinstance(moment, datetime):
        try:
            return moment.timestamp()  # without a zone it is local time
        except (OverflowError, ValueError, OSError) as error:
            raise ConfigError(f"{what} is too far away: {time!r:.80}.") from error
    if isinstance(moment, bool) or not isinstance(moment, int | float) or not math.isfinite(moment):
        raise ConfigError(f"{what} is a date or seconds since the epoch, not {time!r:.80}.")
    return float(moment)
