"""The verbs of :class:`~omnimemory.memory.Memory` that look ahead and back, at what the user did before.

They are a class of their own so that each file stays short; nobody makes one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omnimemory.config import Settings
from omnimemory.embedders.base import UnembeddableTextError
from omnimemory.embedding_service import EmbeddingService
from omnimemory.errors import ConfigError
from omnimemory.procedure.records import Prediction, Repair, SimilarSession, SimilarStep, Workflow
from omnimemory.storage.store import Store
from omnimemory.wiring import redactor_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from omnimemory.procedure.recorded import RecordedSteps
    from omnimemory.procedure.similar_steps import RecordedPairs
    from omnimemory.procedure.timeline import Run

__all__ = ["Foresight"]


class Foresight:
    """What :class:`~omnimemory.memory.Memory` inherits."""

    settings: Settings
    embeddings: EmbeddingService
    _recorded: RecordedSteps | None = None
    _pairs: RecordedPairs | None = None
    _known: tuple[tuple[Store, tuple[int, ...]], list[list[Run]]] | None = None

    @property
    def store(self) -> Store:
        """The store on disk."""
        raise NotImplementedError

    def take_spool(self, *, now: bool = False) -> int:
        """Bring in what shells have written down."""
        raise NotImplementedError

    def next_command(
        self,
        context: Sequence[str] | None = None,
        *,
        cwd: str | Path | None = None,
        ok: bool | None = None,
        k: int = 5,
    ) -> list[Prediction]:
        """Return the k commands that most likely come next, best first; their probabilities sum to at most 1.

        ``context`` holds the commands just run, the last one last (three count); without it, those recorded last.
        ``ok`` says whether the last one worked, ``cwd`` where the next one will run. All of it is learnt from the
        order of the stored shell histories. Commands that only ever failed are not suggested. Nothing is run.
        """
        if isinstance(context, str):
            raise ConfigError("next_command() takes a list of commands: next_command(['git add .']).")
        from omnimemory.procedure.predictor import CONTEXT  # noqa: PLC0415 - a search needs none of it
        from omnimemory.procedure.steps import Step  # noqa: PLC0415 - as above

        self.take_spool()
        steps = None
        if context is not None:
            ran = [command for command in context if not isinstance(command, str) or command.strip()]
            steps = [Step(command) for command in self._commands(ran[-CONTEXT:], "next_command")]
            steps[-1:] = [Step(step.command, ok=ok) for step in steps[-1:]]
        return self._recorded_steps().predict(steps, None if cwd is None else str(cwd), k)

    def similar_sessions(
        self, context: Sequence[str] | None = None, *, cwd: str | Path | None = None, k: int = 5
    ) -> list[SimilarSession]:
        """Return where something like ``context`` was done before, and what was run next; the most alike first.

        ``context`` holds commands, the last one last (eight count); without it, those recorded last, which are then not
        found themselves. Places in the folder ``cwd`` come before others that are as much alike.
        """
        if isinstance(context, str):
            raise ConfigError("similar_sessions() takes a list of commands: similar_sessions(['cd api', 'make test']).")
        from omnimemory.procedure.context_vectors import context_vectors  # noqa: PLC0415 - a search needs none of it
        from omnimemory.procedure.recall import LONGEST, similar_sessions  # noqa: PLC0415 - as above
        from omnimemory.procedure.steps import home_relative  # noqa: PLC0415 - as above
        from omnimemory.procedure.timeline import without_last  # noqa: PLC0415 - as above
        from omnimemory.storage.vectors import vectors_of  # noqa: PLC0415 - as above

        sessions = self._sessions()
        if context is None:
            sessions, commands = without_last(sessions, LONGEST)
        else:
            commands = self._commands(context[-LONGEST:], "similar_sessions")
        if not commands:
            return []
        wanted = context_vectors(self.store, commands, self._embedded)
        rows = sorted({run.row for session in sessions for run in session})
        vectors = vectors_of(self.store.catalog, self.store.commands.collection, rows)
        place = home_relative(None if cwd is None else str(cwd))
        return similar_sessions(sessions, vectors, wanted, k, self.embeddings.sequence_decay, place)

    def similar_steps(self, before: str | None = None, after: str | None = None, *, k: int = 5) -> list[SimilarStep]:
        """Return steps from one command to the next that were taken and are like the one asked for, the nearest first.

        With ``before`` alone: what came after something like it; with ``after`` alone: what led to something like it;
        with both: steps like this one. All distinct steps of the histories are compared, exactly.
        """
        from omnimemory.procedure.context_vectors import context_vectors  # noqa: PLC0415 - a search needs none of it

        texts = self._commands([one for one in (before, after) if one is not None], "similar_steps")
        if not all(text.strip() for text in texts) or not texts:
            raise ConfigError("similar_steps() needs the command before, the one after, or both; none may be empty.")
        self.take_spool()
        vectors = iter(context_vectors(self.store, texts, self._embedded))
        first, second = (None if one is None else next(vectors) for one in (before, after))
        return self._recorded_pairs().nearest(first, second, k)

    def workflows(self, *, k: int = 10, support: int | None = None) -> list[Workflow]:
        """Return routines: steps that recur in the same order, with how often and how well they went.

        Other commands may come in between. ``support`` is how often one has to occur (at least 3 times, more in a long
        history, when not given). Steps are compared by program, sub-command, flags and kinds of arguments.
        """
        from omnimemory.procedure.workflows import find_workflows  # noqa: PLC0415 - a search needs none of it

        if support is not None and support < 2:
            raise ConfigError(f"What occurs {support} times is no routine: workflows(support=2) is the least.")
        return find_workflows(self._sessions(), k, support)

    def why_failed(self, command: str | None = None, *, k: int = 5) -> list[Repair]:
        """Return what helped before, after ``command`` had failed; without it, the command that failed last.

        Only exit codes tell of failures: of JSON Lines, atuin, nushell, hooks and :meth:`record`.
        """
        from omnimemory.procedure.repairs import last_failure, repairs  # noqa: PLC0415 - a search needs none of it

        sessions = self._sessions()
        asked = last_failure(sessions) if command is None else redactor_of(self.settings).command(command).text
        return repairs(sessions, asked, k) if asked else []

    def _commands(self, given: Sequence[str], verb: str) -> list[str]:
        """Return commands as they are stored: without secrets, and with what is no text replaced."""
        wrong = [command for command in given if not isinstance(command, str)]
        if wrong:
            raise ConfigError(f"{verb}() takes commands as texts, got {wrong[0]!r:.80}.")
        redactor = redactor_of(self.settings)
        # A command line may hand over bytes that are no UTF-8.
        return [redactor.command(command.encode("utf-8", "replace").decode()).text for command in given]

    def _embedded(self, commands: list[str]) -> NDArray[np.float32]:
        """Return vectors of what is asked, zeros where there is none; nothing of it is kept."""
        try:
            return self.embeddings.embed_batch(commands, use_cache=False)
        except UnembeddableTextError as error:
            if error.vectors is None:
                raise
            return error.vectors

    def _sessions(self) -> list[list[Run]]:
        from omnimemory.procedure.timeline import events_version, read_sessions  # noqa: PLC0415 - a search needs none

        self.take_spool()
        version = (self.store, events_version(self.store.catalog))
        if self._known is None or self._known[0] != version:
            self._known = version, read_sessions(self.store.catalog, self.settings.history.session_gap)
        return self._known[1]

    def _recorded_steps(self) -> RecordedSteps:
        if self._recorded is None or self._recorded.store is not self.store:  # as after a move to another model
            from omnimemory.procedure.recorded import RecordedSteps  # noqa: PLC0415 - as above

            served = self.embeddings.embedder.name.startswith(("ollama:", "openai:"))  # a prompt cannot wait for these
            embed = None if served else self._embedded
            self._recorded = RecordedSteps(self.store, self.settings.history.session_gap, embed)
        return self._recorded

    def _recorded_pairs(self) -> RecordedPairs:
        if self._pairs is None or self._pairs.store is not self.store:  # as after a move to another model
            from omnimemory.procedure.similar_steps import RecordedPairs  # noqa: PLC0415 - as above

            self._pairs = RecordedPairs(self.store, self.settings.history.session_gap)
        return self._pairs
