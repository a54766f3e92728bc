"""Laws: exporting and importing are each other's inverse, and a backup is what it was made of, for any small memory."""

import io

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfer_cases import exported, memory_of

from omnimemory.config import Settings

NAMES = st.text(alphabet="abé日 -_/'\u2028", min_size=1, max_size=8).filter(str.strip)
NUMBERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
METADATA = st.dictionaries(NAMES, st.one_of(NAMES, NUMBERS, st.lists(NAMES, min_size=1, max_size=2)), max_size=2)
NOTES = st.lists(st.tuples(NAMES, st.one_of(st.none(), NAMES), METADATA), max_size=4)
COMMANDS = st.sampled_from(
    ["ls", "git status", "make test", "echo 'é'", "cd /srv && ls", "for x in 1 2; do echo $x; done"]
)
EVENTS = st.lists(st.tuples(st.integers(0, 3), COMMANDS), max_size=6)
TEXTS = st.text(alphabet="ab c.\n#日", max_size=60)
FILES = st.dictionaries(st.sampled_from(["a.md", "b.txt", "ü.md"]), TEXTS, max_size=3)
FOLDERS = iter(range(1_000_000))


def remembered(memory, folder, files, events, plain, notes):
    (folder / "docs").mkdir()
    for name, text in files.items():
        (folder / "docs" / name).write_text(text)
    (folder / "zsh").write_text("".join(f": {1700000000 + at}:0;{command}\n" for at, command in events))
    (folder / "bash").write_text("".join(f"{command}\n" for command in plain))
    memory.ingest(folder / "docs")
    memory.ingest_history(folder / "zsh", shell="zsh")
    memory.ingest_history(folder / "bash", shell="bash")
    for text, name, metadata in notes:
        memory.add(text, ids=name, metadatas=metadata)


def round_trip(folder, files, events, plain, notes, vectors):
    folder.mkdir()
    settings = Settings().with_values({"store.path": folder / "store", "cache.enabled": False, "index.enabled": False})
    with memory_of(settings) as memory:
        remembered(memory, folder, files, events, plain, notes)
        data, copied = exported(memory, vectors=vectors), exported(memory, vectors=True)
        memory.backup(folder / "backup")
    with memory_of(settings, folder / "other") as memory:
        assert not memory.import_(io.BytesIO(data)).failures
        assert exported(memory, vectors=vectors) == data
    with memory_of(settings, folder / "backup") as memory:
        assert exported(memory, vectors=True) == copied


@pytest.mark.slow
@hypothesis.settings(max_examples=6)
@given(files=FILES, events=EVENTS, plain=st.lists(COMMANDS, max_size=4), notes=NOTES, vectors=st.booleans())
def test_export_import_and_backup_are_faithful(tmp_path_factory, files, events, plain, notes, vectors):
    round_trip(tmp_path_factory.getbasetemp() / f"case{next(FOLDERS)}", files, events, plain, notes, vectors)


@pytest.mark.soak
@hypothesis.settings(max_examples=500)
@given(files=FILES, events=EVENTS, plain=st.lists(COMMANDS, max_size=4), notes=NOTES, vectors=st.booleans())
def test_export_import_and_backup_are_faithful_for_many_memories(
    tmp_path_factory, files, events, plain, notes, vectors
):
    round_trip(tmp_path_factory.getbasetemp() / f"many{next(FOLDERS)}", files, events, plain, notes, vectors)
