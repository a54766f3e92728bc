"""Clients of model servers: what is asked, what is believed, and where a text may be sent."""

from __future__ import annotations

__all__: list[str] = []
