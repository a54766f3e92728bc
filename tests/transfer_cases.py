"""What the tests of exports, imports and backups share: a memory with everything in it, and exports made by hand."""

import io
import json

from omnimemory.embedders.static import StaticEmbedder
from omnimemory.memory import Memory
from omnimemory.transfer.lines import LineWriter

ZSH = ": 1700000000:0;git status\n: 1700000001:3;make test\n: 1700000001:0;git status\n: 1700000002:0;git status\n"
BASH = "ls -la\ncd /srv\nls -la\nmake test\n"


def fill(memory, folder):
    """Bring files, two histories and notes into a memory; ``folder`` is where the files are made, once."""
    docs = folder / "docs"
    if not docs.exists():
        docs.mkdir(parents=True)
        (docs / "deploy.md").write_text("# Deploy\n\nTag the release, then run the pipeline.\n\n# Undo\n\nRevert it.\n")
        (docs / "naïve.txt").write_text("Ünïcode and \u2028 a line separator, 日本語.\n")
        (folder / "zsh_history").write_text(ZSH)
        (folder / "bash_history").write_text(BASH)
    memory.ingest(docs)
    memory.ingest_history(folder / "zsh_history", shell="zsh")
    memory.ingest_history(folder / "bash_history", shell="bash")
    memory.add(["The staging database is rebuilt on Mondays.", "Call Ada."], metadatas=[{"topic": "db"}, {"n": [1, 2]}])
    memory.add("A note with a name.", ids="named", metadatas={"pi": 3.25, "yes": True})


class KeptEmbedder(StaticEmbedder):
    """The static model, loaded once for all tests: its tokenizer takes longer than most of them."""

    def close(self):
        pass


EMBEDDER = KeptEmbedder(256)


def memory_of(settings, path=None):
    """Open the memory of these settings, or another one at ``path``."""
    return Memory(path, settings=settings, embedder=EMBEDDER)


def exported(memory, **options):
    """Return the bytes of an export."""
    stream = io.BytesIO()
    memory.export(stream, **options)
    return stream.getvalue()


def export_of(settings, **options):
    with memory_of(settings) as memory:
        return exported(memory, **options)


def imported(settings, data, **options):
    """Import bytes into the store of these settings; return the report."""
    with memory_of(settings) as memory:
        return memory.import_(io.BytesIO(data), **options)


def another(settings, name):
    """Return the same settings for another store, with a cache of its own."""
    folder = settings.store.path.parent
    return settings.with_values({"store.path": folder / name, "cache.path": folder / f"{name}-cache"})


def lines_of(data):
    """Return the objects of an export, without their seals."""
    found = [json.loads(line) for line in data.splitlines()]
    for line in found:
        del line["seal"]
    return found


def sealed(lines):
    """Return an export with these lines, sealed properly, and with a header that counts them."""
    kinds = {"sources": "kind", "chunks": "chunk", "events": "event"}
    counts = {kind: sum(1 for line in lines[1:-1] if key in line) for kind, key in kinds.items()}
    counts["commands"] = sum(1 for line in lines[1:-1] if "command" in line and "event" not in line)
    stream = io.BytesIO()
    writer = LineWriter(stream.write)
    for line in [{**lines[0], "counts": counts}, *lines[1:]]:
        writer.put(line)
    return stream.getvalue()
