"""The child process that drains the catalog into the index while its parent goes on.

A process and not a thread, for two reasons that were measured: chromadb holds Python's global lock while
it adds, so a thread would stop the embedding it is meant to overlap with; and damaged index files make it
segfault, which must not take the caller along. The parent writes a line for each commit; the end of its
input, also when the parent is killed, means "finish and close".
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from omnimemory.errors import OmniMemoryError
from omnimemory.storage.catalog import Catalog
from omnimemory.storage.drain import DrainOptions, drain
from omnimemory.storage.lock import IndexLock
from omnimemory.storage.rebuild import open_index, rebuild, worn

__all__ = ["Drainer", "main"]

BUSY = 75


class Drainer:
    """The child process that drains while the parent goes on."""

    def __init__(self, store: Path, options: DrainOptions) -> None:
        package_root = str(Path(__file__).resolve().parents[2])
        inherited = os.environ.get("PYTHONPATH")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([package_root, *([inherited] if inherited else [])]),
        }
        # -P: a module lying in the working directory must not be imported in place of the real one.
        # A session of its own: Ctrl-C reaches the parent only, which lets the child finish its batch.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "omnimemory.storage.drainer", str(store), json.dumps(asdict(options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )

    def nudge(self) -> None:
        """Tell the child that something was committed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it stopped already; finish() tells why

    def finish(self) -> str | None:
        """Wait until everything is in the index; return why it is not, or ``None``."""
        _, complaint = self._process.communicate()
        if self._process.returncode in (0, BUSY):
            return None
        lines = complaint.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"the index process ended with code {self._process.returncode}"


def main(arguments: list[str]) -> int:
    """Drain the store named by the first argument until the input ends."""
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    store, options = Path(arguments[0]), DrainOptions(**json.loads(arguments[1]))
    lock = IndexLock(store / "index.lock")
    if not lock.acquire(timeout=2.0):
        return BUSY
    catalog = Catalog(store / "catalog.sqlite3")
    try:
        index, generation = open_index(store, catalog, options)
        try:
            drain(catalog, index, generation, options.batch_size)
            while sys.stdin.buffer.readline():
                drain(catalog, index, generation, options.batch_size)
            drain(catalog, index, generation, options.batch_size)
        finally:
            index.close()
        if worn(catalog):
            rebuild(store, catalog, options)
    except OmniMemoryError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    finally:
        catalog.close()
        lock.release()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
