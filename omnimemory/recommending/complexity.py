"""How hard a question is, told from its form: length, clauses, operators, and the things it names.

No list of subjects: a question about medicine and one about shells are weighed alike. Clauses are counted by their
punctuation and by the conjunctions of English; in other languages by punctuation alone, which makes such a question
look a little easier than it is. Weights and limits are priors that nobody fitted: they order questions, no more.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from omnimemory.errors import ConfigError

__all__ = ["LEVELS", "Complexity", "complexity_of"]

LEVELS = ("low", "medium", "high")

_K = {"low": 5, "medium": 10, "high": 20}
_MEDIUM, _HIGH = 0.4, 0.75
_MOST = 20_000  # characters that are looked at: what is longer is hard already

_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")
_WITHOUT_SPACES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]")
_SIGNS_A_WORD = 2  # of scripts without spaces
_CLAUSE = re.compile(
    r"[,;:\u3001\u3002\uff0c\uff1b]\s*|[.?!]\s+(?=\S)|(?<=\w\s)(?:and|or|but|because|if|when|while|which|that|than|then|"
    r"after|before|so|unless|although|where|why|how)\b",
    re.IGNORECASE,
)
_OPERATOR = re.compile(
    r"[<>=\u2260\u2264\u2265]+|&&|\|\|?|[+*^%]|(?<=\s)[-/](?=\s)|"
    r"\b(?:not|without|except|versus|vs|between|compared?|per|each|every|all)\b",
    re.IGNORECASE,
)
_ENTITY = re.compile(  # bounded repetitions: a long word costs no more than its length
    r"\"[^\"]{1,200}\"|`[^`]{1,200}`|[\w.~-]{0,60}/[\w./~-]{1,200}|\b\w{0,60}\d[\w.:-]{0,200}|\b[A-Za-z]{1,60}_\w{1,200}|"
    r"\b[a-z]{1,60}[A-Z]\w{0,200}|\b[A-Z]{2,60}\b|(?<=[a-z,;] )[A-Z][a-z]{1,60}"
)


@dataclass(frozen=True, slots=True)
class Complexity:
    """How hard a question is: a ``level``, a ``score`` from 0 to 1, what was counted, and what is proposed for it.

    ``k`` is a number of hits to fetch; ``rerank`` says whether to order them by a second, better look.
    """

    level: str
    score: float
    words: int
    clauses: int
    operators: int
    entities: int
    k: int
    rerank: bool


def complexity_of(question: str, level: str | None = None) -> Complexity:
    """Return how hard a question is; ``level`` overrides what its form says. Raises :class:`ConfigError`."""
    if level is not None and level not in LEVELS:
        raise ConfigError(f"There is no level {level!r:.40}. Choose one of {', '.join(LEVELS)}.")
    text = question[:_MOST].strip()
    spaceless = len(_WITHOUT_SPACES.findall(text))
    words = len(_WORD.findall(_WITHOUT_SPACES.sub(" ", text))) + math.ceil(spaceless / _SIGNS_A_WORD)
    clauses = 1 + len(_CLAUSE.findall(text)) if text else 0
    operators, entities = len(_OPERATOR.findall(text)), len(_ENTITY.findall(text))
    score = 1.0 - math.exp(-(words / 25 + max(0, clauses - 1) / 4 + operators / 4 + entities / 6))
    found = level or ("low" if score < _MEDIUM else "medium" if score < _HIGH else "high")
    return Complexity(found, round(score, 3), words, clauses, operators, entities, _K[found], found == "high")
