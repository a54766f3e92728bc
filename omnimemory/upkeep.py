"""The verbs of :class:`~omnimemory.memory.Memory` that look after what is stored rather than use it.

They are a class of their own so that each file stays short; nobody makes one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from omnimemory.answers import Answers
from omnimemory.config import Settings
from omnimemory.embedding_costs import use_budget
from omnimemory.embedding_service import EmbeddingService
from omnimemory.records import Progress
from omnimemory.sources.redaction import Redaction
from omnimemory.storage.store import Store
from omnimemory.wiring import redactor_of

if TYPE_CHECKING:
    from omnimemory.calibration.calibrate import Calibration
    from omnimemory.care.findings import Examination
    from omnimemory.care.outcome import MaintainReport, RepairReport
    from omnimemory.forgetting.criteria import Pattern, Time
    from omnimemory.forgetting.report import ForgetReport, ScrubReport
    from omnimemory.scheduler.machine import Machine

__all__ = ["Upkeep", "state_of"]


_RECENT = 512 << 10  # bytes of decisions that the status counts: about a thousand


def state_of(
    settings: Settings, service: EmbeddingService, store: dict[str, Any], machine: Machine | None = None
) -> dict[str, Any]:
    """Return the state of a memory and its parts as JSON-ready data; ``store`` is what is known of its store."""
    from omnimemory.scheduler.journal import read_counts, read_journal  # noqa: PLC0415 - a search needs none of it
    from omnimemory.scheduler.machine import Machine  # noqa: PLC0415 - as above
    from omnimemory.scheduler.metrics import metrics  # noqa: PLC0415 - as above

    folder = settings.schedule.folder
    return {
        "store": store,
        "cache": service.cache.stats() if service.cache else {"enabled": False},
        "scheduler": service.scheduler.status(),
        "machine": (machine or Machine()).status(),
        "learned": service.learned_status(),
        "decisions": metrics(read_journal(folder, tail=_RECENT), read_counts(folder, tail=_RECENT)),
        "answers": Answers(settings).status(),
    }


class Upkeep:
    """What :class:`~omnimemory.memory.Memory` inherits."""

    settings: Settings
    embeddings: EmbeddingService
    answers: Answers
    _machine: Machine | None = None

    @property
    def store(self) -> Store:
        """The store on disk."""
        raise NotImplementedError

    def take_spool(self, *, now: bool = False) -> int:
        """Bring in what shells have written down."""
        raise NotImplementedError

    # -- knowing

    def status(self) -> dict[str, Any]:
        """Return what the memory holds and what state its parts are in, as JSON-ready data."""
        from omnimemory.scheduler.machine import Machine  # noqa: PLC0415 - a search needs none of it

        self._machine = self._machine or Machine()
        return state_of(self.settings, self.embeddings, self.store.status(), self._machine)

    # -- health

    def doctor(self) -> Examination:
        """Look at every part of the store and of the cache, and say what is wrong and what to do about it.

        Nothing is changed. A store that is too damaged to be opened is examined with
        :func:`omnimemory.care.doctor.examine`, or the command.
        """
        from omnimemory.care.doctor import examine  # noqa: PLC0415 - a search needs none of it

        return examine(self.settings, self.store)

    def repair(self, *, discard: bool = False) -> RepairReport:
        """Make anew what is derived and damaged: keyword indexes, the Chroma index, rows of the cache, modes.

        Nothing is embedded: items without a vector wait for the next ingest. ``discard`` takes out rows that are
        damaged and of which there is no copy. A store that is too damaged to be opened is mended with
        :func:`omnimemory.care.repair.repair`, or the command.
        """
        from omnimemory.care.repair import repair  # noqa: PLC0415 - a search needs none of it

        return repair(self.settings, self.store, discard=discard)

    def maintain(self, *, dry_run: bool = False) -> MaintainReport:
        """Give back the room that deleted items, old indexes and killed processes take; ``dry_run`` only counts.

        An index of which more than a fifth is deleted items is made anew; logs are folded in; files with many
        unused pages are written anew. Stored steps are brought in line with the events; executions that another source
        tells more of, and those older than ``history.keep_days`` where that is set, go. What another process is using
        is skipped, and said.
        """
        from omnimemory.care.maintain import maintain  # noqa: PLC0415 - a search needs none of it

        return maintain(self.store, self.settings, dry_run=dry_run)

    def calibrate(
        self, *, rounds: int = 3, seconds: float = 120.0, progress: Callable[[Progress], None] | None = None
    ) -> Calibration:
        """Measure in a child process what batches of this memory's model need, and which size is the fastest.

        Both are remembered for all memories of this user on this machine, and go into effect at once. Raises
        :class:`ConfigError` for a model that a server runs, :class:`EmbedderError` when nothing could be measured.
        """
        from omnimemory.calibration.calibrate import calibrate  # noqa: PLC0415 - a search needs none of it

        service = self.embeddings
        learned = None if service.observer is None else service.observer.learned
        found = calibrate(
            self.settings, service.embedder.name, rounds=rounds, seconds=seconds, learned=learned, progress=progress
        )
        if learned is not None:
            use_budget(service.embedder, learned)
        return found

    # -- redacting

    def redact(self, text: str, *, document: bool = False) -> Redaction:
        """Return a command line (or a ``document``) as it would be stored, and which rule struck where, and why.

        Nothing is stored. Own rules (``redaction.deny`` and ``redaction.allow``) count.
        """
        return redactor_of(self.settings).explain(text, document=document)

    # -- forgetting

    def forget(
        self,
        query: str | None = None,
        *,
        pattern: Pattern | None = None,
        source: str | PathLike[str] | None = None,
        before: Time | None = None,
        after: Time | None = None,
        cwd: str | PathLike[str] | None = None,
        ids: str | Sequence[str] | None = None,
        kind: str | None = None,
        k: int | None = None,
        min_score: float | None = None,
        dry_run: bool = False,
        finish: bool = False,
        confirm: Callable[[ForgetReport], bool] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> ForgetReport:
        """Forget what fits all that is given, for good: from the catalog, the index, the cache and the backups.

        ``query`` is a question: its ``k`` best hits, or all of at least ``min_score``. ``pattern`` is a part of
        the text, upper and lower case alike, a regular expression behind ``re:``, or a compiled one. ``source`` and
        ``cwd`` are a file or folder, or everything below it. ``after`` (included) and ``before`` (excluded) are
        dates or seconds since the epoch. Of commands, source, cwd and times choose single executions; one goes
        as soon as none is left. ``ids`` are those of hits, ``kind`` is "documents" or "commands".

        ``confirm`` is shown what would go and is asked once; ``dry_run`` only tells. The next ingest does not bring
        back what was forgotten, unless it is told to ``restore``. What could not be purged from a file, because
        another process holds it or a disk is away, is in the report; ``finish=True`` alone tries that again.
        Raises :class:`ConfigError` when nothing, or nothing that makes sense, is given.
        """
        from omnimemory.forgetting.criteria import check_any, make_criteria  # noqa: PLC0415 - a search needs none of it
        from omnimemory.forgetting.forget import Nearest, finish_purging, forget  # noqa: PLC0415 - as above

        self.take_spool(now=not dry_run)
        given = (query, pattern, source, before, after, cwd, ids)
        if finish and all(value is None for value in given):
            return finish_purging(self.store, self.settings, progress)
        check_any(given)
        criteria = make_criteria(
            pattern=pattern, source=source, before=before, after=after, cwd=cwd, ids=ids, kind=kind
        )
        nearest = None if query is None else Nearest(query, k, min_score)
        return forget(
            self.store,
            self.embeddings,
            self.settings,
            criteria,
            nearest=nearest,
            dry_run=dry_run,
            confirm=confirm,
            progress=progress,
        )

    def scrub(self, *, dry_run: bool = False, progress: Callable[[Progress], None] | None = None) -> ScrubReport:
        """Take out of everything that is stored what the rules of today redact, and purge what it was.

        Commands, chunks, notes, headings, metadata and the folders of events are looked at. Their new texts are
        embedded anew, or wait for the next ingest. Secrets that are kept on request (``history.keep_secrets``) stay
        as long as that setting is on. ``dry_run`` only counts.
        """
        from omnimemory.forgetting.scrub import scrub  # noqa: PLC0415 - a search needs none of it

        return scrub(self.store, self.embeddings, self.settings, dry_run=dry_run, progress=progress)
