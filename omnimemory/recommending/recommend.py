"""Which embedding model this machine can hold, and which chat model suits a question.

What would be refused is never recommended: the scheduler is asked about each model, as before a load. Embedding models
that are here come before those that would have to be fetched; of these the ones that we measured come first; then the
larger ones. Of chat models (those that an Ollama has) the smallest comes first that is large enough for the question: a
level asks for so many parameters, which is a prior, no measurement. Where none is large enough, the largest that fits
comes first and the reason says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from omnimemory.recommending.complexity import Complexity, complexity_of

__all__ = ["Candidate", "Option", "Recommendation", "recommend"]

_PARAMETERS = {"low": 1_000_000_000, "medium": 3_000_000_000, "high": 7_000_000_000}
_Rank = tuple[bool, bool, int]
_BYTES_A_PARAMETER = 0.6  # of a model with about 4.5 bits a weight, where its server does not count


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may be recommended: ``ready`` when it is on this machine, else ``fetch`` says how it gets here.

    ``measured`` tells what it found in our own tests.
    """

    name: str
    kind: str
    bytes: int
    ready: bool = True
    fetch: str = ""
    note: str = ""
    measured: str = ""
    parameters: int | None = None

    @property
    def size(self) -> int:
        """Its parameters, by the bytes of its file where nobody counted."""
        return self.parameters or int(self.bytes / _BYTES_A_PARAMETER)


@dataclass(frozen=True, slots=True)
class Option:
    """A model, whether it fits into memory now, whether it is here, and why it stands where it stands."""

    name: str
    fits: bool
    ready: bool
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Models in the order in which they are recommended; those that do not ``fit`` stand last, with the reason.

    ``question`` is ``None`` when none was asked; ``notes`` say what could not be found out.
    """

    embedding: tuple[Option, ...]
    chat: tuple[Option, ...] = ()
    question: Complexity | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)


def recommend(
    candidates: Iterable[Candidate],
    fits: Callable[[Candidate], tuple[bool, str]],
    question: str | None = None,
    *,
    level: str | None = None,
    notes: tuple[str, ...] = (),
) -> Recommendation:
    """Order the candidates. ``fits`` says whether one could be loaded now, and why (not)."""
    asked = complexity_of(question or "", level) if question is not None or level is not None else None
    judged = [(candidate, *fits(candidate)) for candidate in candidates]
    embedding = [_embedding(*one) for one in judged if one[0].kind == "embedding"]
    wanted = _PARAMETERS[asked.level] if asked else 0
    chat = [_chat(*one, wanted, asked.level if asked else "") for one in judged if one[0].kind == "chat"]
    return Recommendation(_ordered(embedding), _ordered(chat) if asked else (), asked, notes)


def _ordered(ranked: Iterable[tuple[_Rank, Option]]) -> tuple[Option, ...]:
    return tuple(option for _, option in sorted(ranked, key=lambda entry: (not entry[1].fits, entry[0], entry[1].name)))


def _embedding(candidate: Candidate, can: bool, why: str) -> tuple[_Rank, Option]:
    told = [
        candidate.note,
        candidate.measured,
        why if can and candidate.ready else "",
        "" if candidate.ready else candidate.fetch,
    ]
    reason = " ".join(part for part in told if part) if can else why
    known = candidate.ready or bool(candidate.measured)
    return (not candidate.ready, not known, -candidate.bytes), _option(candidate, can, reason)


def _chat(candidate: Candidate, can: bool, why: str, wanted: int, level: str) -> tuple[_Rank, Option]:
    size, enough = candidate.size, candidate.size >= wanted
    counted = "" if candidate.parameters else "about "
    told = f"{counted}{size / 1e9:.1f} billion parameters, {wanted / 1e9:g} are wanted for a question of level {level}"
    reason = f"{told}{'' if enough else ': the answer may be poorer'}; {why}" if can else why
    return (not enough, False, size if enough else -size), _option(candidate, can, reason)


def _option(candidate: Candidate, can: bool, reason: str) -> Option:
    return Option(candidate.name, can, candidate.ready, candidate.bytes, reason)
