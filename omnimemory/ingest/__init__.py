"""Ingesting: ``pipeline`` is the one path into the store; ``documents`` and ``history`` feed it."""
