"""The house: floors, the light front door, the exported names."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import omnimemory

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "omnimemory"

FLOORS = {
    "errors": 0,
    "forks": 0,
    "faults": 0.1,
    "records": 0.1,  # the ground floor has an order of its own
    "config": 0.1,
    "model_servers": 0.9,  # the first floor, below the embedders that speak through it
    "sources": 1,
    "embedders": 1,
    "scheduler": 1,
    "storage": 1,
    "calibration": 2,
    "care": 2,
    "embedding_async": 2,
    "embedding_batches": 2,
    "embedding_costs": 2,
    "embedding_service": 2,
    "ingest": 2,
    "model_choice": 2,
    "forgetting": 2,
    "search": 2,
    "snippets": 1,
    "procedure": 2,
    "question_aside": 2,
    "recommending": 2,
    "reembedding": 2,
    "scheduling": 2,
    "answers": 2,
    "served_residency": 2,
    "loaded_model": 2,
    "resident_models": 2,
    "transfer": 2,
    "wiring": 2,
    "evaluation": 2.5,
    "foresight": 2.5,
    "moving": 2.5,
    "recording": 2.5,
    "upkeep": 2.5,
    "memory": 3,
    "cli": 4,
    "__main__": 5,
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
    return {name for name in found if name.split(".")[0] == "omnimemory"}


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    room = room_of(path)
    assert room in FLOORS, f"{room} stands on no floor"
    for name in imports_of(path):
        parts = name.split(".")
        if parts == ["omnimemory"]:
            assert room == "cli", "only the command line may ask the package for its version"
            continue
        below = parts[1]
        if below == room:
            continue
        assert FLOORS[below] < FLOORS[room] or (FLOORS[below] == FLOORS[room] == 2), f"{path} imports {name}"


def test_the_second_floor_has_no_cycle():
    edges = {
        room: {name.split(".")[1] for path in MODULES if room_of(path) == room for name in imports_of(path)} - {room}
        for room, floor in FLOORS.items()
        if floor == 2
    }
    seen: list[str] = []
    while edges:
        free = [room for room, needs in edges.items() if not needs & edges.keys()]
        assert free, f"a cycle among {sorted(edges)}"
        seen += free
        edges = {room: needs for room, needs in edges.items() if room not in free}
    assert seen


def test_no_module_has_a_forbidden_name():
    forbidden = {"utils", "util", "helpers", "helper", "manager", "managers", "handler", "engine", "common", "misc"}
    assert not [path for path in MODULES if path.stem in forbidden]


def test_the_package_exports_what_it_says():
    assert omnimemory.__all__ == ["__version__", *sorted(omnimemory.__all__[1:])]
    for name in omnimemory.__all__:
        assert getattr(omnimemory, name) is not None
    assert set(omnimemory.__all__) <= set(dir(omnimemory))
    with pytest.raises(AttributeError, match="no attribute 'Memmory'"):
        _ = omnimemory.Memmory


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_exports_sorted_names_that_exist(path):
    name = ".".join(("omnimemory", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    if name == "omnimemory.__main__":
        return
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} does not say what it is for"
    exported = getattr(module, "__all__", [])
    assert len(set(exported)) == len(exported)
    for member in exported:
        assert hasattr(module, member), f"{name}.__all__ names {member}"


def loaded_after(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy():
    loaded = loaded_after("import omnimemory")
    assert not {"numpy", "chromadb", "chromadb_rust_bindings", "click", "sqlite3", "httpx", "rich"} & loaded
    assert {name for name in loaded if name.startswith("omnimemory")} == {"omnimemory"}


def test_a_store_opens_and_answers_without_chromadb_or_a_model(tmp_path):
    loaded = loaded_after(
        "from omnimemory import Memory\n"
        f"with Memory({str(tmp_path / 'store')!r}) as memory:\n"
        "    memory.status()\n"
        "    memory.search('anything', mode='keyword')"
    )
    assert not {"chromadb", "chromadb_rust_bindings", "tokenizers", "onnxruntime", "alembic", "rich", "httpx"} & loaded
