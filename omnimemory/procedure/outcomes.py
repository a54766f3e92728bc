"""How often a command worked, as a cautious number."""

from __future__ import annotations

from math import sqrt

__all__ = ["Outcomes"]

_PRIOR_OK, _PRIOR_FAILED = 9.0, 1.0
_DEVIATIONS = 1.28155  # a tenth of a normal distribution lies below


class Outcomes:
    """Counts of runs with exit code 0 and with another one; runs without an exit code tell nothing."""

    __slots__ = ("failed", "worked")

    def __init__(self) -> None:
        self.worked = self.failed = 0

    def add(self, ok: bool | None) -> None:
        """Count one run."""
        self.worked += ok is True
        self.failed += ok is False

    @property
    def only_failed(self) -> bool:
        """Whether it was tried and never worked: such a command is not suggested."""
        return self.failed > 0 and not self.worked

    def factor(self) -> float:
        """Return the lower bound of the success rate, in proportion to that of a command nothing is known of.

        The bound is the tenth percentile of Beta(worked + 9, failed + 1) by its normal approximation: nine of ten
        commands in shell histories work, and one run tells little.
        """
        return min(1.0, _bound(self.worked + _PRIOR_OK, self.failed + _PRIOR_FAILED) / _UNKNOWN)


def _bound(a: float, b: float) -> float:
    mean = a / (a + b)
    return max(0.0, mean - _DEVIATIONS * sqrt(mean * (1.0 - mean) / (a + b + 1.0)))


_UNKNOWN = _bound(_PRIOR_OK, _PRIOR_FAILED)
