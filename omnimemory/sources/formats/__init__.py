"""One reader per format: the bytes of a file to a :class:`~omnimemory.records.Document`.

The format is chosen by the file's name, and by its first line where the name says nothing; whatever is text and has
no reader of its own is plain text. Text, Markdown, reStructuredText and source code are kept as they are, so offsets
point into the file; HTML, notebooks and manual pages are turned into text, and offsets point into that. A name ending
in ``.gz`` is unpacked first and then read by the rest of its name. A reader is imported when its format is met.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

from omnimemory.records import Document
from omnimemory.sources.formats.decoding import SkippedError, decode, gunzip

__all__ = ["SkippedError", "parse", "unread_kind"]

_READERS = {
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd"), "markup.read_markdown"),
    **dict.fromkeys((".rst", ".rest", ".rst.txt"), "markup.read_rst"),  # Sphinx publishes its sources as .rst.txt
    **dict.fromkeys((".html", ".htm", ".xhtml", ".shtml"), "webpage.read_html"),
    ".ipynb": "notebook.read_notebook",
}
_UNREAD = {
    "an image": "png jpg jpeg gif bmp tif tiff webp ico icns avif heic psd xcf svg svgz",
    "sound": "mp3 m4a ogg oga opus flac wav aiff wma mid",
    "video": "mp4 m4v mkv webm avi mov wmv mpg mpeg flv",
    "a font": "ttf otf woff woff2 eot pfb",
    "an archive": "zip tar tgz bz2 xz zst lz4 lzma 7z rar jar war whl egg deb rpm apk dmg iso cab",
    "an office or PDF document, which has no reader yet": "pdf doc docx xls xlsx ppt pptx odt ods odp epub mobi djvu",
    "a database or an index": "db sqlite sqlite3 mdb parquet feather arrow lance",
    "data for programs": "npy npz pkl pickle h5 hdf5 pt pth onnx safetensors gguf bin exe wasm pyd mo elc",
}
_KIND_OF = {ending: kind for kind, endings in _UNREAD.items() for ending in endings.split()}
_COMPRESSED = re.compile(r"\.gz$", re.IGNORECASE)


def unread_kind(uri: str) -> str | None:
    """Return what a file is when its name alone says that there is no text in it to read, else ``None``."""
    name = _COMPRESSED.sub("", uri)
    return _KIND_OF.get(name[name.rfind(".") + 1 :].lower())


def parse(uri: str, data: bytes, *, max_bytes: int) -> Document:
    """Return the text in ``data``, the contents of the file named ``uri``, with its headings and metadata.

    ``metadata`` may hold ``title``, ``tags`` (front matter), ``language`` (source code, notebooks), ``encoding``
    (when it was not UTF-8) and ``encoding_errors`` (places that could not be decoded, now U+FFFD). Raises
    :class:`SkippedError` for what is not text, empty, or unpacks to more than ``max_bytes``, and
    :class:`~omnimemory.errors.SourceError` for what is damaged.
    """
    name = uri.rsplit("/", 1)[-1]
    if _COMPRESSED.search(name):
        data, name = gunzip(data, max_bytes), name[:-3]
    decoded = decode(data)
    if not decoded.text or decoded.text.isspace():
        raise SkippedError("empty")
    document = _reader(name, decoded.text)(uri, decoded.text)
    if not document.text or document.text.isspace():
        raise SkippedError("it holds no text")
    extra: dict[str, str | int] = {}
    if decoded.encoding != "utf-8":
        extra["encoding"] = decoded.encoding
    if decoded.errors:
        extra["encoding_errors"] = decoded.errors
    return replace(document, metadata={**document.metadata, **extra}) if extra else document


def _reader(name: str, text: str) -> Callable[[str, str], Document]:
    lower = name.lower()
    ending = ".rst.txt" if lower.endswith(".rst.txt") else lower[lower.rfind(".") :]
    if ending in _READERS:
        module, _, function = _READERS[ending].partition(".")
        reader: Callable[[str, str], Document] = getattr(import_module(f"{__name__}.{module}"), function)
        return reader
    from omnimemory.sources.formats.manpage import is_manpage, read_manpage  # noqa: PLC0415 - see above
    from omnimemory.sources.formats.source_code import language_of, read_code  # noqa: PLC0415 - as above

    if is_manpage(name, text):
        return read_manpage
    language = language_of(name, text)
    if language is not None:
        return lambda uri, source: read_code(uri, source, language)
    return Document
