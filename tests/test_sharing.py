"""One store, several processes: all succeed, readers see each commit, nothing is lost or doubled."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnimemory.memory import Memory

ROOT = Path(__file__).resolve().parents[1]


def child(script: str, settings, *arguments: str) -> subprocess.Popen:
    head = (
        "import sys\nfrom omnimemory.config import Settings\nfrom omnimemory.memory import Memory\n"
        f"settings = Settings().with_values({{'store.path': {str(settings.store.path)!r}, "
        f"'cache.path': {str(settings.cache.path)!r}, 'search.exact_rows': {settings.search.exact_rows}, "
        f"'index.enabled': {settings.index.enabled}, 'embedding.batch_size': {settings.embedding.batch_size}}})\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out


READER = """
import time
deadline = time.monotonic() + 60
with Memory(settings=settings) as memory:
    while time.monotonic() < deadline:
        hits = memory.search("uncommonword", kind="commands", mode="keyword")
        if hits:
            print(time.time())
            break
        time.sleep(0.05)
    else:
        raise SystemExit("never seen")
"""


WRITER = """
import time
with Memory(settings=settings) as memory:
    print(memory.ingest_history(sys.argv[1], shell="bash").events)
    print(time.time())
"""


def test_a_holder_a_writer_and_a_reader(indexed, tmp_path):
    settings = indexed.with_values({"search.exact_rows": 0})
    history = tmp_path / "history"
    history.write_text("".join(f"make target-{n % 700}\n" for n in range(3000)) + "echo uncommonword\n")
    with Memory(settings=settings) as holder:
        holder.add([f"note {n}" for n in range(50)])
        assert holder.warm() is None
        reader = child(READER, settings)
        report = finish(child(WRITER, settings, str(history))).split()
        assert report[0] == "3001"
        seen = float(finish(reader))
        assert seen - float(report[1]) <= 2.0
        assert len(holder.search("make target-13", kind="commands", k=1)) == 1
        assert holder.status()["store"]["commands"] == {"sources": 1, "commands": 701, "events": 3001, "pending": 0}
        deadline = time.monotonic() + 60
        while holder.store.generations.waiting() and time.monotonic() < deadline:
            time.sleep(0.1)  # the holder drains what the writer could only commit
        assert holder.store.generations.waiting() == 0
        assert (
            holder.search("make target-13", kind="commands", explain=True).explain["kinds"]["commands"]["answered_by"]
            == "chroma"
        )


def test_two_processes_ingest_the_same_history_at_once(settings, tmp_path):
    history = tmp_path / "history"
    history.write_text("".join(f"command {n % 97}\n" for n in range(2000)))
    children = [child(WRITER, settings, str(history)) for _ in range(3)]
    added = [int(finish(process).split()[0]) for process in children]
    with Memory(settings=settings) as memory:
        assert memory.ingest_history(history, shell="bash").events == 0
        assert memory.status()["store"]["commands"]["events"] == 2000
        assert memory.status()["store"]["commands"]["commands"] == 97
    assert sum(added) == 2000


def test_two_processes_ingest_the_same_folder_at_once(settings, tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    for n in range(120):
        (folder / f"{n}.md").write_text(f"Document {n} tells about subject {n % 13}.")
    script = "with Memory(settings=settings) as memory:\n    print(memory.ingest(sys.argv[1]).failed)"
    children = [child(script, settings, str(folder)) for _ in range(3)]
    assert [finish(process).strip() for process in children] == ["0", "0", "0"]
    with Memory(settings=settings) as memory:
        assert memory.ingest(folder).added == 0
        assert memory.status()["store"]["documents"]["chunks"] == 120


@pytest.mark.slow
def test_a_killed_ingest_is_finished_by_the_next_one(indexed, tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    for n in range(1500):
        (folder / f"{n}.md").write_text(f"Document {n} tells about subject {n % 13}.")
    script = "memory = Memory(settings=settings)\nprint('ready', flush=True)\nmemory.ingest(sys.argv[1])\nprint('done')"
    settings = indexed.with_values({"embedding.batch_size": 64})
    process = child(script, settings, str(folder))
    assert process.stdout.readline() == "ready\n"
    with Memory(settings=settings) as memory:
        deadline = time.monotonic() + 60
        while memory.status()["store"]["documents"]["chunks"] < 100 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        kept = memory.status()["store"]["documents"]["chunks"]
        assert kept >= 100
        report = memory.ingest(folder)
        assert report.failed == 0
        assert report.added == 1500 - kept
        assert report.embedded + report.cache_hits == report.added
        assert memory.status()["store"]["documents"]["chunks"] == 1500
        assert memory.store.generations.waiting() == 0
