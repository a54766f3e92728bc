"""The verbs of :class:`~omnimemory.memory.Memory` that take in what the user runs.

They are a class of their own so that each file stays short; nobody makes one of these.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from omnimemory.config import Settings
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import ConfigError, OmniMemoryError
from omnimemory.records import Event, IngestReport, Progress
from omnimemory.sources.spool_folder import spool_folder, spool_waits
from omnimemory.storage.store import Store
from omnimemory.wiring import redactor_of

__all__ = ["Recording"]

ProgressCallback = Callable[[Progress], None]
_MOST_SECONDS = 86_400.0
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the last one that datetime can show


class Recording:
    """What :class:`~omnimemory.memory.Memory` inherits."""

    settings: Settings
    embeddings: EmbeddingService

    @property
    def store(self) -> Store:
        """The store on disk."""
        raise NotImplementedError

    def ingest_history(
        self,
        target: str | Path | IO[bytes] | None = None,
        *,
        shell: str | None = None,
        name: str = "stdin",
        every: bool = False,
        keep_secrets: bool | None = None,
        restore: bool = False,
        progress: ProgressCallback | None = None,
    ) -> IngestReport:
        """Bring a shell history into the memory, and what was added to it since the last time.

        ``target`` is a history file, a shell's name, or an open binary stream, whose history is remembered by ``name``;
        without it the running user's own history is found, or with ``every`` all histories on this machine (the
        report's ``histories``). ``shell`` says the format when it is not to be guessed. Secrets are replaced by
        ``[REDACTED:rule]`` before anything is hashed, cached, embedded or stored, unless
        ``keep_secrets``; the first run without that takes out what earlier ones kept. ``restore`` brings
        back what was forgotten of this history.
        """
        self.take_spool()  # what a shell tells of a command is more than its history does
        return self._ingested(target, shell, keep_secrets, restore=restore, progress=progress, name=name, every=every)

    def _ingested(
        self, target: str | Path | IO[bytes] | None, shell: str | None, keep_secrets: bool | None, **more: Any
    ) -> IngestReport:
        from omnimemory.ingest.history_runs import ingest_history  # noqa: PLC0415 - a search needs none of it

        keep = self.settings.history.keep_secrets if keep_secrets is None else keep_secrets
        redactor, history = redactor_of(self.settings, keep_secrets=keep), self.settings.history
        return ingest_history(
            self.store, self.embeddings, target, shell=shell, redactor=redactor, history=history, **more
        )

    def watch_history(
        self,
        target: str | Path | None = None,
        *,
        shell: str | None = None,
        every: bool = False,
        keep_secrets: bool | None = None,
        seconds: float = 2.0,
    ) -> Iterator[IngestReport]:
        """Bring a shell history into the memory, go on with what is added to it, and yield a report each time.

        The first report is of what was there; then the files, and what the hooks of shells write down, are looked at
        every so many ``seconds``, for as long as the reports are asked for. The rest is as for :meth:`ingest_history`.
        What fails for now (a locked database, a store that is busy) is told once and tried again.
        """
        if not 0 < seconds <= _MOST_SECONDS:
            raise ConfigError(f"seconds must be more than 0 and at most a day, got {seconds}: the pause between looks.")
        from omnimemory.ingest.following import follow, watched  # noqa: PLC0415 - a search needs none of it

        what = watched(target, shell, spool_folder(self.settings.store.path), every=every)
        # The spool is taken in on its own, before: what came of it is told as well.
        take = partial(self._ingested, what.path, what.shell, keep_secrets, restore=False, progress=None, every=every)
        return follow(what, take, self._spooled, seconds)

    def record(
        self,
        command: str,
        exit_code: int | None = None,
        cwd: str | Path | None = None,
        *,
        duration: float | None = None,
        timestamp: float | None = None,
        session: str | None = None,
        host: str | None = None,
        shell: str | None = None,
    ) -> str | None:
        """Remember that a command was run; return its id, as searches give it.

        ``timestamp`` is when it began, in seconds since the epoch (now less ``duration`` when omitted); the same
        command at the same time is one event. ``session`` says what belongs together. Secrets are taken out as from a
        history. Returns ``None`` for what is left out: a command that begins with a space, or was forgotten.
        """
        if not isinstance(command, str) or not command.strip():
            raise ConfigError("record() needs the command that was run: record('make test', exit_code=0).")
        from omnimemory.ingest.recorded import record_event  # noqa: PLC0415 - a search needs none of it

        code = None if exit_code is None else _whole("exit_code", exit_code)
        took = None if duration is None else _seconds("duration", duration)
        begun = time.time() - (took or 0.0) if timestamp is None else _seconds("timestamp", timestamp)
        place = _text("cwd", os.fspath(cwd) if isinstance(cwd, os.PathLike) else cwd)
        names = (_text(name, value) for name, value in (("session", session), ("host", host), ("shell", shell)))
        event = Event(_storable(command), begun, place, code, took, *names)
        redactor = redactor_of(self.settings, keep_secrets=self.settings.history.keep_secrets)
        return record_event(self.store, self.embeddings, redactor, event)

    def take_spool(self, *, now: bool = False) -> int:
        """Bring in what shells with the hook have written down since the last call; return how many events came.

        Searches, predictions and ingests do this by themselves. What cannot be stored at the moment stays where it is.
        """
        if not spool_waits(spool_folder(self.settings.store.path)):
            return 0
        try:
            return self._spooled(now=now).events
        except (OmniMemoryError, OSError):
            if now:
                raise
            return 0  # a question is answered even where nothing can be written

    def _spooled(self, *, now: bool = False) -> IngestReport:
        from omnimemory.ingest.recorded import take_spool  # noqa: PLC0415 - as above

        redactor = redactor_of(self.settings, keep_secrets=self.settings.history.keep_secrets)
        folder = spool_folder(self.settings.store.path)
        return take_spool(self.store, self.embeddings, redactor, folder, now=now).report()


def _whole(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**32:
        return value
    raise ConfigError(f"record() takes {name} as a whole number of 32 bits, got {value!r:.80}.")


def _seconds(name: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LAST_SECOND:
        return float(value)
    raise ConfigError(f"record() takes {name} in seconds, from 0 to the year 9999, got {value!r:.80}.")


def _text(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"record() takes {name} as a text, got {value!r:.80}.")
    return _storable(value) if value else None


def _storable(text: str) -> str:
    """Return a text without what a database cannot hold: NULs, and lone surrogates of names that are no UTF-8."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
