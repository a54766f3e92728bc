"""The verbs of :class:`~omnimemory.memory.Memory` that take in what the user runs.

They are a class of their own so that each file stays short; nobody makes one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO

from omnimemory.config import Settings
from omnimemory.embedding_service import EmbeddingService
from omnimemory.records import IngestReport, Progress
from omnimemory.storage.store import Store
from omnimemory.wiring import redactor_of

__all__ = ["Recording"]

ProgressCallback = Callable[[Progress], None]


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
        from omnimemory.ingest.runs import ingest_history  # noqa: PLC0415 - a search needs none of it

        keep = self.settings.history.keep_secrets if keep_secrets is None else keep_secrets
        return ingest_history(
            self.store,
            self.embeddings,
            target,
            shell=shell,
            redactor=redactor_of(self.settings, keep_secrets=keep),
            restore=restore,
            progress=progress,
            name=name,
            every=every,
        )
