"""What is known of models by the names under which servers offer them: prompts and Matryoshka sizes.

A server adds no prompt to a text, and a model that was trained with prompts finds clearly less without them. They are
those of the model cards: nomic-embed-text v1.5, mxbai-embed-large v1, embeddinggemma-300m, bge v1.5 (English),
snowflake-arctic-embed 1 and 2, qwen3-embedding, and OpenAI's guide for text-embedding-3. The smaller sizes of
nomic-embed-text are left out: they need a normalisation before the cut, which no server does.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["ServedName", "known_name"]

_PASSAGES = "Represent this sentence for searching relevant passages: "
_WEB_SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


class ServedName(NamedTuple):
    """The prompts before a document and a query, and the smaller sizes the model was trained for."""

    document: str = ""
    query: str = ""
    dims: tuple[int, ...] = ()


_NAMES: tuple[tuple[str, ServedName], ...] = (
    (r"nomic-embed-text.*", ServedName("search_document: ", "search_query: ")),
    (r"mxbai-embed-large.*", ServedName("", _PASSAGES, (512, 256, 128, 64))),
    (
        r"(text-embedding-)?embedding-?gemma.*",
        ServedName("title: none | text: ", "task: search result | query: ", (512, 256, 128)),
    ),
    (r"bge-(small|base|large)(-en.*|:.*)?", ServedName("", _PASSAGES)),
    (r"snowflake-arctic-embed-?[a-z]*-?(v2|2).*", ServedName("", "query: ", (256,))),
    (r"snowflake-arctic-embed.*", ServedName("", _PASSAGES)),
    (r"qwen3-embedding.*", ServedName("", _WEB_SEARCH, (1024, 512, 256, 128, 64, 32))),
    (r"text-embedding-3-small", ServedName(dims=(1024, 512, 256))),
    (r"text-embedding-3-large", ServedName(dims=(1536, 1024, 512, 256))),
)


def known_name(model: str) -> ServedName:
    """Return what is known of a model; nothing (no prompts, no sizes) of one that is not in the table.

    A folder or namespace before the name, and ``text-embedding-`` as LM Studio puts it there, do not count.
    """
    name = model.strip().lower().rpartition("/")[2]
    plain = name.removeprefix("text-embedding-")
    return next(
        (known for form, known in _NAMES if re.fullmatch(form, name) or re.fullmatch(form, plain)), ServedName()
    )
