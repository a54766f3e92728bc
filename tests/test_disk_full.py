"""A full disk, a real one: nothing acknowledged is lost, reads go on, and the error says how much room is needed.

The disk is a small tmpfs, which only root may mount. For anybody else the whole file runs once more in a user
namespace of its own, where that is allowed.
"""

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_cases import copy_of, dump, neighbours, tell
from store_cases import ROOT, wait_until

from omnimemory.config import Settings
from omnimemory.memory import Memory
from omnimemory.storage.connections import Connections
from omnimemory.storage.manifest import is_clean

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "50"))
MIB = 1 << 20
NEEDED = re.compile(r"The disk of \S+ is full: about [\d,.]+ MiB are needed, [\d,.]+ MiB are free\..*free some space")


@pytest.fixture
def disk(tmp_path):
    """Return a disk of 48 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root mounts; test_those_who_are_not_root runs these tests in a namespace of their own")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={48 * MIB},mode=0700", "none", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"root may not mount a tmpfs here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root runs the other tests as they are")
def test_those_who_are_not_root_run_these_tests_in_a_namespace_of_their_own():
    own = ["unshare", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*own, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here: a small disk cannot be mounted")
    done = subprocess.run(
        [*own, sys.executable, "-m", "pytest", "-q", __file__], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def fill(disk, leave=0):
    """Fill a disk up to some bytes; return the file that does it."""
    ballast = disk / "ballast"
    status = os.statvfs(disk)
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        rest = status.f_bavail * status.f_frsize - leave
        while rest > 0:
            rest -= file.write(bytes(min(rest, MIB)))
    return ballast


def command(place, *words):
    """Run a command on the store in ``place``; its cache is there as well."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMNIMEMORY_STORE": str(place / "store"),
        "OMNIMEMORY_CACHE_PATH": str(place / "cache"),
    }
    return subprocess.run(
        [sys.executable, "-m", "omnimemory", *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_without_room_a_move_to_another_model_is_refused_before_it_begins(stage, disk):
    place = copy_of(stage.folder / "full", disk / "place")
    before, files = dump(place), sorted((place / "store").iterdir())
    ballast = fill(disk, leave=4 * MIB)
    refused = command(place, "reembed", "--dim", "64")
    assert refused.returncode == 74
    assert "no room for " in refused.stderr
    assert NEEDED.search(refused.stderr), refused.stderr
    assert command(place, "search", "lighthouse", "--mode", "vector").returncode == 0
    assert dump(place) == before
    assert sorted((place / "store").iterdir()) == files
    ballast.unlink()
    assert command(place, "reembed", "--dim", "64").returncode == 0


def test_without_room_a_command_ends_with_74_and_says_how_much_is_needed_and_searches_go_on(stage, disk):
    place = copy_of(stage.folder / "indexed", disk / "place")
    before = dump(place)
    ballast = fill(disk, leave=4 * MIB)
    refused = command(place, "add", "one more note")
    assert refused.returncode == 74
    assert NEEDED.search(refused.stderr), refused.stderr
    fill(disk)
    assert os.statvfs(disk).f_bavail == 0
    values = {"store.path": place / "store", "cache.path": place / "cache", "search.exact_rows": 0}
    with Memory(settings=Settings().with_values(values)) as memory:
        assert len(memory.search("lighthouse")) == 10
        found = command(place, "search", "lighthouse", "storm")  # while another process has the store open as well
        assert "no room for opening the index" in memory.warm()
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("\n") > 5
    assert is_clean(next((place / "store" / "index").iterdir()))
    assert command(place, "status").returncode == 0
    assert command(place, "add", "one more note").returncode == 74
    assert dump(place) == before
    ballast.unlink()
    assert command(place, "add", "one more note").returncode == 0
    assert len(dump(place)) > len(before)


def test_two_threads_that_read_on_a_full_disk_keep_no_other_process_out(stage, disk):
    place = copy_of(stage.folder / "indexed", disk / "place")
    fill(disk)
    connections = Connections(place / "store" / "catalog.sqlite3")
    count = "SELECT count(*) FROM chunks"

    def read():
        with connections.use() as connection:
            connection.execute(count).fetchone()

    with connections.use() as connection:
        connection.execute(count).fetchone()
        other = threading.Thread(target=read)  # shares the memory of this thread's connection
        other.start()
        other.join()
    found = command(place, "search", "lighthouse")
    connections.close()
    assert found.returncode == 0, found.stderr


def test_many_threads_open_a_catalog_at_once_on_a_full_disk(stage, disk):
    place = copy_of(stage.folder / "indexed", disk / "place")
    fill(disk)
    connections = Connections(place / "store" / "catalog.sqlite3")

    def read():
        with connections.use() as connection:
            return connection.execute("SELECT count(*) FROM chunks").fetchone()[0]

    with ThreadPoolExecutor(4) as pool:
        counts = set(pool.map(lambda _: read(), range(3000)))
    connections.close()
    assert len(counts) == 1


def test_a_connection_is_kept_where_there_is_room(stage, disk):
    place = copy_of(stage.folder / "indexed", disk / "place")
    connections = Connections(place / "store" / "catalog.sqlite3")
    seen = set()
    for _ in range(3):
        with connections.use() as connection:
            connection.execute("SELECT count(*) FROM chunks").fetchone()
            seen.add(connection)
    connections.close()
    assert len(seen) == 1


def test_a_disk_that_is_full_after_a_kill_is_read_with_what_was_committed_last(stage, disk):
    place = copy_of(stage.folder / "nothing", disk / "place")
    stage.run("ingest", place, "commit.after:kill@9")  # what it committed is in SQLite's log only
    ballast = fill(disk)
    found = stage.process.run("search", place)
    assert (found.code, found.error) == (0, ())
    assert any(found.value)
    ballast.unlink()
    stage.assert_heals("ingest", place)


@pytest.mark.parametrize(
    ("operation", "point"),
    [("ingest", "commit.before"), ("ingest", "cache.write"), ("index", "drain.add")],
    ids=lambda value: value,
)
def test_a_disk_that_fills_up_in_the_midst_costs_only_what_was_not_acknowledged(stage, disk, operation, point):
    place = copy_of(stage.folder / {"ingest": "nothing", "index": "full"}[operation], disk / "place")
    stage.process.start(operation, place, f"{point}:pause={disk.parent}/gate")
    assert wait_until((disk.parent / "gate.reached").exists)
    ballast = fill(disk)
    (disk.parent / "gate").touch()
    done = stage.process.outcome()
    said = done.error[1] if done.error else str(done.value)
    assert "is full" in said, said
    assert not done.error or (done.error[0], done.error[2]) == ("StoreFullError", 74)
    if dump(place):  # a store that was never written to can only be made with some room
        assert stage.process.run("search", place).error == ()
    ballast.unlink()
    stage.assert_heals(operation, place)


def test_a_full_disk_behind_the_output_ends_a_command_with_74(stage):
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [sys.executable, "-m", "omnimemory", "config"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 74
    assert done.stderr.strip() == "Error: The disk that the output goes to is full. Free some space and run it again."


def test_a_store_that_may_only_be_read_is_searched_and_says_so_when_it_is_written(stage, disk):
    place = copy_of(stage.folder / "indexed", disk / "place")
    right = neighbours(stage.process.run("search", place).value)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for how in ({}, {"settings": {"index.enabled": True, "search.exact_rows": 0}}):
        found = stage.process.run("search", place, **how)
        assert found.error == ()
        assert neighbours(found.value) == right
    refused = command(place, "add", "one more note")
    assert refused.returncode == 1
    assert "Check who owns it and its permissions" in refused.stderr
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert command(place, "add", "one more note").returncode == 0


# -- rounds


class Filler(threading.Thread):
    """Fills a disk after some seconds, for as long as the block runs."""

    def __init__(self, disk, seconds, leave):
        super().__init__(daemon=True)
        self._disk, self._seconds, self._leave = disk, seconds, leave
        self._over = threading.Event()

    def run(self):
        if not self._over.wait(self._seconds):
            fill(self._disk, self._leave)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self.join()


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_rounds_on_a_disk_that_fills_up_lose_nothing_that_was_acknowledged(stage, disk, capsys):
    chosen, figures = random.Random(5), {"ended full": 0, "ended well": 0, "exit 74": 0, "searches": 0, "notes": 0}
    place = disk / "place"
    place.mkdir()
    (place / "acknowledged").touch()
    for number in range(ROUNDS):
        drains = chosen.choice(["this process", "a child"])
        with Filler(disk, chosen.uniform(0.0, 1.5), chosen.choice([0, 100_000, 2 * MIB])):
            done = stage.process.run("work", place, rounds=[number], drains=drains)
        assert not done.error or (done.error[0], done.error[2]) == ("StoreFullError", 74), done
        figures["ended full" if done.error or done.value else "ended well"] += 1
        ballast = fill(disk)
        refused = command(place, "add", f"a note of round {number}")
        assert refused.returncode == 74, refused
        assert NEEDED.search(refused.stderr), refused.stderr
        figures["exit 74"] += 1
        if (place / "store" / "catalog.sqlite3").exists():
            seen = stage.process.run("look", place)
            assert seen.error == (), seen
            promised = set((place / "acknowledged").read_text().split())
            lost = {name for name in promised if name.startswith("round-")} - set(seen.value["notes"])
            assert not lost
            assert command(place, "search", "storm").returncode == 0
            figures["searches"] += 1
            figures["notes"] = len(seen.value["notes"])
        ballast.unlink()
    tell(capsys, f"{ROUNDS} rounds: {figures}")
    began = time.monotonic()
    done = stage.process.run("work", place, rounds=list(range(ROUNDS)), drains="this process")
    assert (done.error, done.value) == ((), None)
    assert stage.process.run("inspect", place).value == {}
    tell(capsys, f"completed in {time.monotonic() - began:.1f} s with {len(dump(place)):,} facts")
