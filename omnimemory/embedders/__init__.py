"""Text in, unit float32 vectors out: one protocol, one module per model family."""

from __future__ import annotations

__all__: list[str] = []
