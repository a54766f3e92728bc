"""The stage on which faults are tried out: stores to begin with, operations, and what each leads to undisturbed."""

from fault_cases import copy_of, dump, fault_process, folder_of, later_migrations, make_corpus, strangers_in

from omnimemory.storage.catalog import HEAD

BEGINS_WITH = {
    "ingest": "nothing",
    "index": "full",
    "drain": "full",
    "rebuild": "indexed",
    "forget": "indexed",
    "reembed": "indexed",
    "migrate": "full",
}
"""The operations of ``fault_child`` that write, and the store each begins with."""

CHAINS = {
    "ingest": (
        *("catalog.create", "source.read", "cache.read", "cache.write", "catalog.read", "commit.before"),
        "commit.after",
    ),
    "index": (
        *("lock.take", "index.open", "drain.add", "drain.mark", "drain.change", "drain.forget", "index.close"),
        *("manifest.write", "manifest.switch"),
    ),
    "rebuild": ("rebuild.fill", "rebuild.switch", "rebuild.remove"),
    "drain": ("drainer.start",),
    "forget": ("purge.cache", "purge.index", "purge.backup", "purge.catalog"),
    "reembed": ("reembed.fill", "reembed.switch", "reembed.drop"),
    "migrate": ("migrate.copy", "migrate.upgrade", "migrate.backup", "migrate.switch", "migrate.done"),
}
"""The points by the operation that reaches them, in such an order that each is reached after dying at the last."""


class Stage:
    """Stores to begin with, the process in which things happen, and what each operation leads to undisturbed."""

    def __init__(self, folder, process, rows=0):
        self.folder = folder
        self.process = process
        self.arguments = {"migrate": {"migrations": str(later_migrations(folder / "migrations", HEAD))}}
        self.wanted, self.reached = {}, {}
        folder_of(folder / "nothing")
        if rows:
            assert not process.run("fill", folder / "nothing", rows=rows).error
        self._undisturbed("ingest", "full")
        self._undisturbed("index", "indexed")
        self._undisturbed("rebuild", "undisturbed")
        self._undisturbed("forget", "undisturbed")
        self._undisturbed("reembed", "undisturbed")
        self._undisturbed("migrate", "undisturbed")
        self.wanted["drain"] = dump(folder / "full")

    def _undisturbed(self, operation, result):
        place, notes = copy_of(self.folder / BEGINS_WITH[operation], self.folder / result), self.folder / "notes"
        done = self.run(operation, place, f"*:note={notes}")
        assert not done.error, done
        self.wanted[operation] = dump(place)
        self.reached[operation] = notes.read_text().split()
        notes.unlink()

    def run(self, operation, place, faults=""):
        """Do an operation, with its arguments."""
        return self.process.run(operation, place, faults, **self.arguments.get(operation, {}))

    def begun(self, operation):
        """Return a fresh copy of what an operation begins with."""
        return copy_of(self.folder / BEGINS_WITH[operation], self.folder / "case")

    def assert_heals(self, operation, place):
        """Do the operation once more, undisturbed: it must lead to where it always leads."""
        again = self.run(operation, place)
        assert (again.code, again.error) == (0, ())
        assert dump(place) == self.wanted[operation]
        assert strangers_in(place / "store") == []
        if operation == "forget":
            assert again.value == []
            assert not [path for path in place.rglob("*") if path.is_file() and b"storm" in path.read_bytes().lower()]
        if operation in ("index", "drain", "rebuild"):
            assert self.process.run("inspect", place).value == {}
            assert len(list((place / "store" / "index").iterdir())) == 1


def make_stage(folder, rows=0, **arguments):
    """Yield a stage, whose stores hold so many rows from the beginning; for a fixture."""
    with fault_process(folder_of(folder / "home"), make_corpus(folder / "corpus"), **arguments) as process:
        yield Stage(folder, process, rows)
