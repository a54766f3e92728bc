"""Imports: what was exported comes back equal, once, also after a death in between; what is damaged changes nothing."""

import io
import random
import signal

import pytest
from store_cases import start
from transfer_cases import another, export_of, exported, fill, imported, lines_of, memory_of, sealed

from omnimemory.config import Settings
from omnimemory.errors import SchemaError, SourceError


@pytest.fixture
def memory(settings):
    with memory_of(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The export of a memory with everything in it, with vectors."""
    folder = tmp_path_factory.mktemp("origin")
    settings = Settings().with_values({"store.path": folder / "store", "cache.enabled": False, "index.enabled": False})
    with memory_of(settings) as memory:
        fill(memory, folder)
        return exported(memory, vectors=True)


@pytest.mark.parametrize("vectors", [False, True])
def test_a_round_trip_into_an_empty_store_is_equal(settings, tmp_path, vectors):
    with memory_of(settings) as memory:
        fill(memory, tmp_path)
        data = exported(memory, vectors=vectors)
        question = memory.search("when is staging rebuilt?", k=5)
    with memory_of(another(settings, "empty")) as memory:
        report = memory.import_(io.BytesIO(data))
        assert (report.embedded + report.cache_hits, report.reused) == ((0, 9) if vectors else (9, 0))
        assert (report.added, report.events, report.pending, report.failures) == (9, 8, 0, ())
        assert exported(memory, vectors=vectors) == data
        assert [(hit.id, hit.score) for hit in memory.search("when is staging rebuilt?", k=5)] == [
            (hit.id, hit.score) for hit in question
        ]
        assert [hit.text for hit in memory.search("Mondays", mode="keyword")][:1] == [question[0].text]
        again = memory.import_(io.BytesIO(data))
        assert (again.added, again.unchanged, again.events, again.embedded, again.cache_hits) == (0, 9, 0, 0, 0)
        assert exported(memory, vectors=vectors) == data


def test_an_import_into_the_store_it_came_from_changes_nothing(memory, tmp_path):
    fill(memory, tmp_path)
    data = exported(memory)
    report = memory.import_(io.BytesIO(data))
    assert (report.added, report.unchanged, report.events, report.failures) == (0, 9, 0, ())
    assert exported(memory) == data


def test_a_file_and_a_pipe_are_imported_alike(settings, tmp_path, data):
    (tmp_path / "memory.jsonl").write_bytes(data)
    with memory_of(another(settings, "empty")) as memory:
        seen = []
        memory.import_(tmp_path / "memory.jsonl", progress=lambda p: seen.append((p.stage, p.done == p.total)))
        assert exported(memory, vectors=True) == data
    assert [stage for stage, last in seen if last] == ["check", "import"]


def test_what_was_imported_need_not_be_embedded_or_stored_again_by_an_ingest(settings, tmp_path):
    other = another(settings, "empty")
    with memory_of(settings) as memory:
        fill(memory, tmp_path)
        imported(other, exported(memory))
    with memory_of(other) as memory:
        report = memory.ingest(tmp_path / "docs")
        assert (report.added, report.updated, report.deleted, report.embedded) == (0, 0, 0, 0)
        for shell in ("zsh", "bash"):
            report = memory.ingest_history(tmp_path / f"{shell}_history", shell=shell)
            assert (report.added, report.events, report.embedded) == (0, 0, 0)
        (tmp_path / "bash_history").write_text((tmp_path / "bash_history").read_text() + "git push\n")
        report = memory.ingest_history(tmp_path / "bash_history", shell="bash")
        assert (report.added, report.events) == (1, 1)


# -- what is damaged


def cut_lines(data, first, last):
    return b"".join(data.splitlines(keepends=True)[first:last])


def swapped(data):
    lines = data.splitlines(keepends=True)
    return b"".join([*lines[:5], lines[6], lines[5], *lines[7:]])


DAMAGE = {
    "nothing in it": (lambda data: b"", "empty"),
    "prose": (lambda data: b"# Notes\n\nNot an export.\n", "line 1: this is not an export"),
    "JSON of somebody else": (lambda data: b'{"id": 1}\n{"id": 2}\n', "line 1: this is not an export"),
    "a database": (lambda data: b"SQLite format 3\0" + bytes(5000), "line 1: this is not an export"),
    "the header is missing": (lambda data: cut_lines(data, 1, None), "line 1: damaged"),
    "a letter changed": (lambda data: data.replace(b"Mondays", b"Sundays"), r"line \d+: damaged: it was changed"),
    "a line is missing": (lambda data: cut_lines(data, 0, 6) + cut_lines(data, 7, None), "line 7: damaged"),
    "a line is there twice": (lambda data: cut_lines(data, 0, 6) + cut_lines(data, 5, None), "line 7: damaged"),
    "two lines swapped": (swapped, "line 6: damaged"),
    "cut off within a line": (lambda data: data[: len(data) // 2], r"line \d+: damaged: the file was cut off within"),
    "cut off behind a line": (lambda data: cut_lines(data, 0, 8), "line 8: damaged: the file was cut off behind it"),
    "the end is missing": (lambda data: cut_lines(data, 0, -1), "the file was cut off behind it"),
    "two exports in one": (lambda data: data + data, r"line \d+: damaged"),
    "something behind the end": (lambda data: data + b"\n", r"line \d+: damaged"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_file_that_is_no_sound_export_names_the_line_and_changes_nothing(settings, tmp_path, data, case):
    damage, message = DAMAGE[case]
    (tmp_path / "memory.jsonl").write_bytes(damage(data))
    with memory_of(another(settings, "other")) as memory:
        before = exported(memory)
        with pytest.raises(SourceError, match=message):
            memory.import_(tmp_path / "memory.jsonl")
        assert exported(memory) == before


def test_any_changed_byte_is_noticed(settings, tmp_path, data):
    chance = random.Random(7)
    with memory_of(another(settings, "other")) as memory:
        for place in chance.sample(range(len(data) - 2), 60):
            changed = bytearray(data)
            changed[place] ^= 1 << chance.randrange(8)
            (tmp_path / "memory.jsonl").write_bytes(changed)
            with pytest.raises((SourceError, SchemaError), match=r"line \d+"):
                memory.import_(tmp_path / "memory.jsonl")
        assert memory.status()["store"]["documents"]["chunks"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"text": 7}, "'text'", id="a number for a text"),
        pytest.param({"text": "\ud800"}, "'text'", id="half a character"),
        pytest.param({"start": -1}, "'start'", id="a negative place"),
        pytest.param({"start": True}, "'start'", id="a truth for a number"),
        pytest.param({"metadata": {"n": 2**70}}, "'metadata'", id="a number that SQLite cannot hold"),
        pytest.param({"chunk": " "}, "'chunk'", id="a blank id"),
        pytest.param({"vector": "AAAA"}, "'vector'", id="a vector of another size"),
        pytest.param({"vector": "!"}, "'vector'", id="a vector that is none"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_line_and_field(settings, data, change, message):
    lines = lines_of(data)
    number = next(n for n, line in enumerate(lines) if "chunk" in line)
    lines[number] |= change
    with pytest.raises(SourceError, match=f"line {number + 1}: damaged: its {message}"):
        imported(another(settings, "other"), sealed(lines))


@pytest.mark.parametrize(
    "state",
    [{"chunks": "many"}, {"digest": "x"}, {"open": "no hex"}, {"commands": None}, {"root": 7}],
    ids=lambda state: next(iter(state)),
)
def test_a_state_that_would_mislead_an_ingest_is_refused(settings, data, state):
    lines = lines_of(data)
    lines[1]["state"] = state
    with pytest.raises(SourceError, match="line 2: damaged"):
        imported(another(settings, "other"), sealed(lines))


def test_an_export_of_a_newer_version_is_refused(settings, data):
    lines = lines_of(data)
    lines[0]["version"] = 2
    with pytest.raises(SchemaError, match=r"newer version.*format 2.*pip install --upgrade"):
        imported(another(settings, "other"), sealed(lines))


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_file_that_cannot_be_read_is_an_error(settings, tmp_path, name):
    with memory_of(settings) as memory, pytest.raises(SourceError, match="cannot be read"):
        memory.import_(tmp_path / name)


# -- interrupted


def test_a_pipe_that_breaks_is_completed_by_the_next_import(settings, data):
    other = another(settings, "other")
    for part in (0.3, 0.6, 0.9):
        with pytest.raises(SourceError, match="importing the sound file completes it"):
            imported(other, data[: int(len(data) * part)])
    report = imported(other, data)
    assert report.failures == ()
    assert export_of(other, vectors=True) == data


IMPORT = """
import sys
from pathlib import Path
from omnimemory.config import Settings
from omnimemory.memory import Memory
settings = Settings().with_values(
    {"store.path": sys.argv[1], "cache.enabled": False, "index.enabled": False, "embedding.batch_size": 2}
)
with Memory(settings=settings) as memory:
    memory.import_(sys.argv[2])
"""


MORE_DEATHS = [f"commit.{side}:kill@{n}" for side in ("before", "after") for n in range(1, 8) if n % 4 != 3]


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    ["commit.after:kill@3", "commit.before:kill@7", *(pytest.param(p, marks=pytest.mark.soak) for p in MORE_DEATHS)],
)
def test_an_import_that_is_killed_is_completed_by_the_next_one(settings, tmp_path, data, point):
    (tmp_path / "memory.jsonl").write_bytes(data)
    other = another(settings, "other")
    child = start(IMPORT, other.store.path, tmp_path / "memory.jsonl", OMNIMEMORY_FAULTS=point)
    _, error = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, error
    assert export_of(other) != data
    imported(other, data)
    assert export_of(other, vectors=True) == data


def test_an_ingest_between_a_broken_import_and_the_next_loses_and_doubles_nothing(settings, tmp_path):
    with memory_of(settings) as memory:
        fill(memory, tmp_path)
        data = exported(memory, vectors=True)
    other = another(settings, "other")
    with pytest.raises(SourceError):
        imported(other, data[: data.index(b'"kind":"notes"')])
    with memory_of(other) as memory:
        fill(memory, tmp_path)
        memory.import_(io.BytesIO(data))
        found = lines_of(exported(memory, vectors=True))
    expected = lines_of(data)
    assert [line for line in found if "kind" not in line] == [line for line in expected if "kind" not in line]
