"""The verbs of :class:`~omnimemory.memory.Memory` that look ahead, from what the user did before.

They are a class of their own so that each file stays short; nobody makes one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omnimemory.config import Settings
from omnimemory.errors import ConfigError
from omnimemory.records import Prediction
from omnimemory.storage.store import Store
from omnimemory.wiring import redactor_of

if TYPE_CHECKING:
    from omnimemory.procedure.recorded import RecordedSteps

__all__ = ["Foresight"]


class Foresight:
    """What :class:`~omnimemory.memory.Memory` inherits."""

    settings: Settings
    _recorded: RecordedSteps | None = None

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

        ``context`` holds the commands just run, the last one last (two count); without it, those recorded last.
        ``ok`` says whether the last one worked, ``cwd`` where the next one will run. All of it is learnt from the
        order of the stored shell histories. Commands that only ever failed are not suggested. Nothing is run.
        """
        if isinstance(context, str):
            raise ConfigError("next_command() takes a list of commands: next_command(['git add .']).")
        from omnimemory.procedure.steps import Step  # noqa: PLC0415 - a search needs none of it

        self.take_spool()
        steps = None
        if context is not None:
            redactor = redactor_of(self.settings)
            steps = [Step(redactor.command(command).text) for command in context]
            steps[-1:] = [Step(step.command, ok=ok) for step in steps[-1:]]
        return self._recorded_steps().predict(steps, None if cwd is None else str(cwd), k)

    def _recorded_steps(self) -> RecordedSteps:
        if self._recorded is None:
            from omnimemory.procedure.recorded import RecordedSteps  # noqa: PLC0415 - as above

            self._recorded = RecordedSteps(self.store, self.settings.history.session_gap)
        return self._recorded
