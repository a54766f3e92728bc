"""Encoders through MLX: on the graphics processor of Apple silicon, on the processor of Linux.

Nothing here imports MLX before a model is loaded, so this can be imported where MLX cannot.
"""

from __future__ import annotations

__all__: list[str] = []
