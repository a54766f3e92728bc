"""Jupyter notebooks (nbformat 3 and 4): the text of their cells, one blank line apart.

Outputs are left out: they are data, often large, and made anew by running the code.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

from omnimemory.errors import SourceError
from omnimemory.records import Document, Heading
from omnimemory.sources.formats.decoding import without_surrogates
from omnimemory.sources.formats.limits import MOST_HEADINGS, check_count
from omnimemory.sources.formats.markup import markdown_headings

__all__ = ["read_notebook"]

_MOST_VALUES = 1_000_000
_FIX = "open it in Jupyter and save it again, or exclude it"


def read_notebook(uri: str, text: str) -> Document:
    """Return the Markdown, raw and code cells of a notebook, with the headings of the Markdown cells.

    Raises :class:`~omnimemory.errors.SourceError` when the file is not JSON (naming the place) or no notebook.
    """
    name = uri.rsplit("/", 1)[-1]
    check_count(text, "[{", _MOST_VALUES, "lists and objects of JSON")
    try:
        notebook = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise SourceError(f"{name} is not valid JSON at {where} ({error.msg}); {_FIX}") from None
    except (RecursionError, ValueError):  # the latter: an integer of more than 4,300 digits
        raise SourceError(f"{name} is not a notebook: its JSON is nested too deeply or oversized; {_FIX}") from None
    cells = _cells(notebook)
    if cells is None:
        raise SourceError(f"{name} is not a notebook: it has no list of cells; {_FIX}")
    parts: list[str] = []
    headings: list[Heading] = []
    offset = 0
    for kind, source in cells:
        if kind == "markdown":
            headings += (
                Heading(offset + each.start, each.level, each.title)
                for each in islice(markdown_headings(source), MOST_HEADINGS)
            )
        parts.append(source)
        offset += len(source) + 2
    return Document(uri, "\n\n".join(parts), "notebook", tuple(headings[:MOST_HEADINGS]), _metadata(notebook))


def _cells(notebook: Any) -> list[tuple[str, str]] | None:
    """Return kind and text of each cell that has text, or ``None`` if this is no notebook."""
    if not isinstance(notebook, dict):
        return None
    cells = notebook.get("cells")
    sheets = notebook.get("worksheets")
    if cells is None and isinstance(sheets, list):  # nbformat 3
        cells = [cell for sheet in sheets if isinstance(sheet, dict) for cell in sheet.get("cells") or ()]
    if not isinstance(cells, list):
        return None
    texts = [(str(cell.get("cell_type")), _source(cell)) for cell in cells if isinstance(cell, dict)]
    return [(kind, text) for kind, text in texts if text and not text.isspace()]


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    return without_surrogates(source).replace("\0", "\ufffd") if isinstance(source, str) else ""


def _metadata(notebook: dict[str, Any]) -> dict[str, str]:
    metadata = notebook.get("metadata")
    kernel = metadata.get("kernelspec") if isinstance(metadata, dict) else None
    language = kernel.get("language") if isinstance(kernel, dict) else None
    return {"language": without_surrogates(language)} if isinstance(language, str) and language else {}
