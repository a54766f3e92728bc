"""The texts of the ``embed`` benchmark: shell commands, and chunks of documentation; real ones where they are given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from benchmarks.children import in_child
from benchmarks.corpus import write_documents
from benchmarks.history import entry, write_history
from benchmarks.options import Options

__all__ = ["chunks_of", "some_documents", "some_history", "texts_of"]


def texts_of(options: Options, kind: str) -> Path:
    """Write the texts of a kind as a JSON list and return the file."""
    path = options.work / f"{kind}.json"
    if kind == "commands":
        size = options.size(5_000, 48, options.texts)
        found = some_commands(options, size)
    else:
        size = options.size(1_000, 12, options.texts and max(1, options.texts // 5))
        found = in_child(
            "benchmarks.embed_texts:chunks_of", options.work, source=str(every_document(options)), size=size
        )
    path.write_text(json.dumps(found[:size]), encoding="utf-8")
    return path


def some_commands(options: Options, size: int) -> list[str]:
    if options.tldr is not None:
        lines = options.tldr.read_text("utf-8").splitlines()[1:]
        commands = list(dict.fromkeys(line.split("\t")[2].strip() for line in lines))
        return commands[:: max(1, len(commands) // size)]
    path = options.work / "embed-history"
    write_history(path, 12 * size)
    lines = path.read_text("utf-8", "replace").splitlines()
    return list(dict.fromkeys(line.partition(";")[2] for line in lines if line.partition(";")[2].strip()))


def every_document(options: Options) -> Path:
    if options.docs is not None:
        return options.docs.resolve()
    folder = options.work / "embed-documents"
    write_documents(folder, options.size(120, 3))
    return folder


def chunks_of(source: str, size: int) -> list[str]:
    """Return chunks of the documents in a folder, spread over all of them."""
    from omnimemory.embedders.static import StaticEmbedder
    from omnimemory.records import Failure
    from omnimemory.sources.chunking import chunk
    from omnimemory.sources.documents import Limits, SkippedError, read, walk

    limits, counter, found = Limits(), StaticEmbedder().count_tokens, []
    for file in walk(Path(source), limits):
        if isinstance(file, Failure):
            continue
        try:
            document = read(file, limits)
        except SkippedError:
            continue
        found += [piece.text for piece in chunk(document, counter)]
        if len(found) > 20 * size:
            break
    return found[:: max(1, len(found) // size)]


def some_documents(options: Options) -> Path:
    folder = options.work / "pipeline-documents"
    if options.docs is None:
        write_documents(folder, options.size(80, 2))
        return folder
    folder.mkdir()
    files = sorted(path for path in options.docs.rglob("*") if path.is_file())
    for path in files[:: max(1, len(files) // options.size(30, 3))]:
        shutil.copyfile(path, folder / f"{path.stem[:60]}-{len(list(folder.iterdir()))}{path.suffix}")
    return folder


def some_history(options: Options) -> Path:
    path = options.work / "pipeline-history"
    size = options.size(5_000, 48)
    commands = some_commands(options, size)[:size]
    path.write_bytes(b"".join(entry(command, 1_600_000_000 + number) for number, command in enumerate(commands)))
    return path
