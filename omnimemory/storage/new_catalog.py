"""An empty catalog, made from the schema's snapshot."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from omnimemory.storage.checksums import text_checksum

__all__ = ["new_catalog"]


def new_catalog(path: Path, revision: str) -> None:
    """Make an empty catalog at a path where there is nothing yet, or an empty file."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # 8 KiB pages hold seven 256-d vectors instead of three: less slack, fewer reads.
        connection.execute("PRAGMA page_size = 8192")
        schema = Path(__file__).with_name("schema.sql").read_text("utf-8")
        connection.executescript(f"BEGIN;\n{schema}\nCOMMIT;")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        key = os.urandom(32).hex()
        connection.execute(
            "INSERT INTO meta VALUES ('key', ?), ('key_checksum', ?), ('commits', '0')", (key, text_checksum(key))
        )
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
