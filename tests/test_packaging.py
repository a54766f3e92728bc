"""The built wheel, installed where nothing of the checkout can be seen, opens a store and runs the demo."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    target = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return next(target.glob("*.whl"))


def test_the_wheel_carries_what_is_no_python(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "omnimemory/py.typed" in names
    assert "omnimemory/storage/schema.sql" in names
    assert "omnimemory/migrations/env.py" in names
    assert "omnimemory/migrations/versions/0001_catalog.py" in names
    assert "omnimemory/samples/history.zsh" in names
    for name in ("LICENSE", "NOTICE"):
        assert any(path.endswith(f"/licenses/{name}") for path in names)
    assert not {name for name in names if name.startswith(("tests/", "benchmarks/", "migrations/"))}


SCRIPT = """
import pathlib, sys
import omnimemory
from omnimemory import Memory
from omnimemory.storage.migration import migrations_directory
home = pathlib.Path(omnimemory.__file__).resolve()
assert sys.prefix in str(home), home
assert migrations_directory().resolve().is_relative_to(home.parent)
with Memory(sys.argv[1]) as memory:
    memory.add("the wheel works")
    assert memory.search("does the wheel work?")[0].text == "the wheel works"
    assert memory.store.drain() is None
    assert memory.status()["store"]["index"]["waiting"] == 0
"""


def test_the_installed_wheel_opens_a_store(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    inside = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    )
    zipfile.ZipFile(wheel).extractall(inside)
    # The dependencies come from this environment: named after the wheel, so that the wheel's package wins.
    (inside / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", SCRIPT, str(tmp_path / "store")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_migrations_are_found_in_a_checkout():
    from omnimemory.storage.migration import migrations_directory

    assert (migrations_directory() / "versions").is_dir()
