"""Migrations: on a copy, checked, switched in one rename; a newer catalog is refused untouched."""

import hashlib
import re
import shutil
import sqlite3

import pytest
from store_cases import ROOT, SPACE, add_rows, finish, opened, run, start

from omnimemory.errors import SchemaError, StoreBusyError, StoreError
from omnimemory.storage.catalog import HEAD, Catalog
from omnimemory.storage.lock import IndexLock
from omnimemory.storage.migration import migrate, migrations_directory

NEXT = f"{int(HEAD) + 1:04}"
REVISION = """
from alembic import op

revision = "NEXT"
down_revision = "HEAD"
branch_labels = None
depends_on = None


def upgrade():
    op.execute("ALTER TABLE chunks ADD COLUMN language TEXT NOT NULL DEFAULT 'en'")
    op.execute("UPDATE chunks SET language = 'de' WHERE chunk_id = 'row3'")
    {more}
"""


def migrations_with_one_more(folder, more="pass"):
    shutil.copytree(migrations_directory(), folder)
    revision = REVISION.format(more=more).replace("NEXT", NEXT).replace("HEAD", HEAD)
    (folder / "versions" / f"{NEXT}_language.py").write_text(revision)
    return folder


@pytest.fixture
def catalog(tmp_path):
    """A catalog with 50 chunks and their vectors, closed."""
    with opened(tmp_path / "store", index=False) as store:
        add_rows(store, 50)
    return tmp_path / "store" / "catalog.sqlite3"


def content_of(path):
    connection = sqlite3.connect(path)
    found = [
        connection.execute("SELECT chunk_id, text, metadata FROM chunks ORDER BY id").fetchall(),
        connection.execute("SELECT row, item, vector FROM vectors ORDER BY row").fetchall(),
        connection.execute("SELECT rowid FROM chunks_fts WHERE chunks_fts MATCH 'row7'").fetchall(),
        connection.execute("SELECT key, value FROM meta").fetchall(),
    ]
    connection.close()
    return found


def revision_of(path):
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    connection.close()
    return found


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_beside(path):
    return {file.name for file in path.parent.iterdir()} - {
        "index.lock",
        f"{path.name}.migrating.lock",
        f"{path.name}.seal",
    }


@pytest.mark.parametrize("folder", ["plain", "100% of #1? yes & 'more'"])
def test_an_older_catalog_is_backed_up_and_migrated_with_all_its_data(tmp_path, catalog, folder):
    place = tmp_path / folder
    place.mkdir()
    path = place / "catalog.sqlite3"
    shutil.copy2(catalog, path)
    before, old = content_of(path), digest(path)
    backup = migrate(path, HEAD, NEXT, directory=migrations_with_one_more(place / "more"))
    assert content_of(path) == before
    assert revision_of(path) == NEXT
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT language, count(*) FROM chunks GROUP BY 1").fetchall() == [("de", 1), ("en", 49)]
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert backup.name == f"catalog.sqlite3.schema-{HEAD}.backup"
    assert revision_of(backup) == HEAD
    assert content_of(backup) == before
    assert {backup.stat().st_mode & 0o777, path.stat().st_mode & 0o777} == {0o600}
    assert files_beside(path) == {"catalog.sqlite3", backup.name, "more"}
    assert old != digest(path)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param("raise RuntimeError('half way')", id="the revision raises"),
        pytest.param("op.execute('DROP TABLE no_such_table')", id="SQLite refuses a statement"),
        pytest.param(
            "op.execute('PRAGMA foreign_keys=OFF'); op.execute('DELETE FROM sources')", id="rows are orphaned"
        ),
        pytest.param(
            "op.execute(\"UPDATE alembic_version SET version_num = '0000'\")", id="the version is not reached"
        ),
    ],
)
def test_a_migration_that_fails_leaves_the_original_as_it_was(tmp_path, catalog, more):
    before = digest(catalog)
    with pytest.raises(SchemaError, match=r"[Nn]othing was changed"):
        migrate(catalog, HEAD, NEXT, directory=migrations_with_one_more(tmp_path / "more", more))
    assert digest(catalog) == before
    assert files_beside(catalog) == {"catalog.sqlite3"}
    with opened(catalog.parent, index=False) as store:
        assert store.documents.count() == 50


def test_a_newer_catalog_is_refused_and_not_touched(catalog):
    connection = sqlite3.connect(catalog)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = digest(catalog)
    with pytest.raises(SchemaError, match=r"newer version.*schema 9999.*pip install --upgrade"):
        Catalog(catalog)
    assert digest(catalog) == before
    assert files_beside(catalog) == {"catalog.sqlite3"}


def test_a_catalog_that_somebody_has_open_is_not_migrated(tmp_path, catalog):
    folder = migrations_with_one_more(tmp_path / "more")
    user = Catalog(catalog)
    user.meta("key")
    with pytest.raises(StoreBusyError, match="another process uses it"):
        migrate(catalog, HEAD, NEXT, directory=folder)
    with user.transaction() as sql:
        sql.execute("INSERT INTO meta VALUES ('still', 'writing')")
    user.close()
    assert revision_of(catalog) == HEAD
    migrate(catalog, HEAD, NEXT, directory=folder)
    assert ("still", "writing") in content_of(catalog)[3]


def test_what_is_only_in_the_write_ahead_log_is_migrated_too(tmp_path, catalog):
    # A process that was killed leaves its commits in the log.
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom omnimemory.storage.catalog import Catalog\n"
        "catalog = Catalog(Path(sys.argv[1]))\nwith catalog.transaction() as sql:\n"
        "    sql.execute(\"INSERT INTO meta VALUES ('in the', 'log')\")\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    child = start(script, catalog)
    child.communicate(timeout=60)
    assert catalog.with_name("catalog.sqlite3-wal").stat().st_size > 0
    backup = migrate(catalog, HEAD, NEXT, directory=migrations_with_one_more(tmp_path / "more"))
    assert ("in the", "log") in content_of(catalog)[3]
    assert ("in the", "log") in content_of(backup)[3]


MIGRATE = """
import sys
from pathlib import Path
from omnimemory.storage.migration import migrate
print("ready", flush=True)
sys.stdin.readline()
print(migrate(Path(sys.argv[1]), sys.argv[3], sys.argv[4], directory=Path(sys.argv[2])))
"""


@pytest.mark.slow
def test_processes_that_migrate_at_once_do_it_once(tmp_path, catalog):
    before = content_of(catalog)
    folder = migrations_with_one_more(tmp_path / "more")
    children = [start(MIGRATE, catalog, folder, HEAD, NEXT) for _ in range(3)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    (backup,) = {finish(child).strip() for child in children}
    assert revision_of(catalog) == NEXT
    assert revision_of(backup) == HEAD
    assert content_of(catalog) == content_of(backup) == before


def test_a_migration_waits_for_the_one_that_is_running(tmp_path, catalog):
    lock = IndexLock(catalog.with_name(f"{catalog.name}.migrating.lock"))
    assert lock.acquire()
    child = start(MIGRATE, catalog, migrations_with_one_more(tmp_path / "more"), HEAD, NEXT)
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "ready\n"
    assert revision_of(catalog) == HEAD
    assert child.poll() is None
    lock.release()
    finish(child)
    assert revision_of(catalog) == NEXT


OPEN = """
import sys
from pathlib import Path
from omnimemory.storage import catalog
from omnimemory.storage.drain import StoreOptions
from omnimemory.storage.opened_store import open_store
assert Path(catalog.__file__).is_relative_to(sys.argv[2]), catalog.__file__
held = open_store(Path(sys.argv[1]), StoreOptions(index=False), fingerprint=sys.argv[3], model="random", dim=16)
language = held.store.catalog.value("SELECT max(language) FROM chunks")
print(held.store.documents.count(), language, "alembic" in sys.modules)
held.close()
"""


def test_the_next_version_of_the_package_opens_todays_store_and_todays_refuses_it_then(tmp_path, catalog):
    later = tmp_path / "later"
    shutil.copytree(ROOT / "omnimemory", later / "omnimemory", ignore=shutil.ignore_patterns("__pycache__"))
    migrations_with_one_more(later / "migrations")
    source = later / "omnimemory" / "storage" / "catalog.py"
    changed, count = re.subn(rf'^HEAD = "{HEAD}"$', f'HEAD = "{NEXT}"', source.read_text("utf-8"), flags=re.MULTILINE)
    assert count == 1
    source.write_text(changed, "utf-8")
    arguments = (catalog.parent, later, SPACE["fingerprint"])
    assert run(OPEN, *arguments, PYTHONPATH=str(later)).split() == ["50", "en", "True"]
    assert run(OPEN, *arguments, PYTHONPATH=str(later)).split() == ["50", "en", "False"]
    with pytest.raises(SchemaError, match="newer version"), opened(catalog.parent):
        pytest.fail("a newer catalog was opened")
    assert issubclass(SchemaError, StoreError)
