"""How well commands are found by what they do: descriptions are asked, and right is each command they were given for.

``recall10`` is the share of the questions with a right command among the first ten answers, ``mrr10`` the mean of
1/rank of the first right one, 0 beyond the tenth: as ``python -m benchmarks fusion`` has them. The intervals are from a
bootstrap over questions, with the same draws for every mode, so that differences are paired.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omnimemory.errors import SourceError

__all__ = ["ASKED", "DEEPEST", "MODES", "Question", "ask", "key_of", "questions_of", "read_pairs", "table"]

MODES = ("keyword", "vector", "hybrid")
DEEPEST = 10
ASKED = ("recall10", "mrr10")
_ROUNDS = 2000
_NEEDED = ("description", "command")
_FORM = (
    "Give lines of a description, a tab and a command (more columns need a first line that names them),"
    ' or JSON Lines such as {"description": "undo the last commit", "command": "git reset --soft HEAD~1"}.'
)

Ranks = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Question:
    """A description and the commands that are right for it, as :func:`key_of` has them."""

    text: str
    right: frozenset[str]


def key_of(command: str) -> str:
    """Return a command as it is compared: whatever blanks are between its words, they are one."""
    return " ".join(command.split())


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Return the (description, command) pairs of a file, tab-separated or JSON Lines.

    Raises :class:`SourceError`, with the line's number, for what is neither, and for a file without any pair.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 (byte {error.start}). {_FORM}") from error
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    pairs = list(_objects(path, lines) if lines and lines[0][1].lstrip().startswith("{") else _columns(path, lines))
    if not pairs:
        raise SourceError(f"{path} holds no questions. {_FORM}")
    return pairs


def _objects(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[str, str]]:
    for number, line in lines:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path}, line {number}: this is not JSON. {_FORM}") from error
        values = [found.get(name) if isinstance(found, dict) else None for name in _NEEDED]
        yield _pair(path, number, *values)


def _columns(path: Path, lines: Sequence[tuple[int, str]]) -> Iterator[tuple[str, str]]:
    rows = [(number, line.rstrip("\r").split("\t")) for number, line in lines]
    names = [name.strip().casefold() for name in rows[0][1]] if rows else []
    places = [names.index(name) for name in _NEEDED] if set(_NEEDED) <= set(names) else None
    width = len(names) if places else len(_NEEDED)
    for number, cells in rows[1:] if places else rows:
        if len(cells) != width:
            raise SourceError(f"{path}, line {number}: {len(cells)} columns where {width} are expected. {_FORM}")
        yield _pair(path, number, *(cells[place] for place in places or (0, 1)))


def _pair(path: Path, number: int, description: object, command: object) -> tuple[str, str]:
    if isinstance(description, str) and isinstance(command, str) and description.strip() and command.strip():
        return description.strip(), command.strip()
    raise SourceError(f"{path}, line {number}: there is no description or no command. {_FORM}")


def questions_of(
    pairs: Iterable[tuple[str, str]], stored: Iterable[str], clean: Callable[[str], str]
) -> list[Question]:
    """Return each description once, with those of its commands that are ``stored``; none without any.

    ``clean`` tells what a command is stored as: without its secrets.
    """
    known = {key_of(command) for command in stored}
    right: dict[str, set[str]] = {}
    for description, command in pairs:
        right.setdefault(description, set()).add(key_of(clean(command)))
    return [Question(text, frozenset(keys & known)) for text, keys in right.items() if keys & known]


def ask(questions: Sequence[Question], find: Callable[[str, str], Iterable[str]]) -> dict[str, Ranks]:
    """Return for each mode the rank of the first right command to each question; 0: not among the first ten.

    ``find(description, mode)`` returns commands, the best first.
    """
    return {
        mode: np.array([_rank(question, find(question.text, mode)) for question in questions], np.int64)
        for mode in sorted(
            MODES, reverse=True
        )  # what needs the model comes first: a model that is away is told at once
    }


def _rank(question: Question, found: Iterable[str]) -> int:
    ranked = enumerate(map(key_of, found), 1)
    return next((rank for rank, command in ranked if command in question.right and rank <= DEEPEST), 0)


def table(ranks: Mapping[str, Ranks]) -> list[dict[str, object]]:
    """Return one row for each mode: both measures, their 95 % intervals, and by how much hybrid is better.

    An interval is (lower, mean, upper).
    """
    scores = np.stack([_scores(ranks[mode]) for mode in MODES])  # (modes, measures, questions)
    draws = np.random.default_rng(0)
    size = scores.shape[2]
    means = np.stack([scores[:, :, draws.integers(0, size, size)].mean(axis=2) for _ in range(_ROUNDS)])
    return [_row(place, scores.mean(axis=2), means) for place in range(len(MODES))]


def _row(place: int, mean: NDArray[np.float64], means: NDArray[np.float64]) -> dict[str, object]:
    row: dict[str, object] = {"mode": MODES[place]}
    hybrid = MODES.index("hybrid")
    for number, name in enumerate(ASKED):
        row[name] = float(mean[place, number])
        row[f"{name}_interval"] = _interval(means[:, place, number], mean[place, number])
    if place != hybrid:
        row["hybrid_better_by"] = {
            name: _interval(
                means[:, hybrid, number] - means[:, place, number], mean[hybrid, number] - mean[place, number]
            )
            for number, name in enumerate(ASKED)
        }
    return row


def _scores(ranks: Ranks) -> NDArray[np.float64]:
    found = ranks > 0
    return np.stack([found.astype(np.float64), np.where(found, 1.0 / np.maximum(ranks, 1), 0.0)])


def _interval(means: NDArray[np.float64], mean: float) -> tuple[float, float, float]:
    lower, upper = np.percentile(means, (2.5, 97.5))
    return float(lower), float(mean), float(upper)
