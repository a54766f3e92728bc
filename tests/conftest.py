"""Fixtures: nothing a test does touches the user's own files."""

import os
import signal
from pathlib import Path

import hypothesis
import platformdirs
import pytest

from omnimemory.config import Settings
from omnimemory.embedders.installed import InstalledModel, find_installed
from omnimemory.embedders.models import find_card, known_models
from omnimemory.embedders.pull import pull_model, usual_sources
from omnimemory.errors import EmbedderError
from omnimemory.memory import Memory

# Whoever starts the tests in the background, or under nohup, has these ignored, also in children: tests send some.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No law is about time, and the machines that run this are shared.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


USERS_MODELS = Path(os.environ.get("OMNIMEMORY_MODELS_PATH") or platformdirs.user_data_path("omnimemory") / "models")


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """Give each test a home of its own, and no settings from outside."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("OMNIMEMORY_", "XDG_")) or name in {"HISTFILE", "ZDOTDIR"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Return settings with a store and a cache inside the test's folder, and no index: it costs seconds to start."""
    return Settings().with_values(
        {"store.path": tmp_path / "store", "cache.path": tmp_path / "cache", "index.enabled": False}
    )


@pytest.fixture
def indexed(settings) -> Settings:
    """Return the same settings with the Chroma index switched on, as it is for users."""
    return settings.with_values({"index.enabled": True})


@pytest.fixture
def memory(settings):
    with Memory(settings=settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of public data sets beside the checkout, or skip."""
    found = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not found.is_dir():
        pytest.skip("needs the public data sets beside the checkout (shared/data)")
    return found


@pytest.fixture(scope="session")
def minilm(request) -> InstalledModel:
    """Return MiniLM: the user's own if it was pulled, else one that is pulled once into pytest's cache; or skip."""
    found = find_installed(USERS_MODELS, "minilm")
    if found is not None:
        return found
    card = find_card("minilm", known_models())
    try:
        return pull_model(card, request.config.cache.mkdir("omnimemory-models"), usual_sources(card))
    except EmbedderError as error:
        pytest.skip(f"needs the model, which cannot be fetched here: {error}")


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    """Return the stage on which faults are tried out (``fault_stage.py``)."""
    from fault_stage import make_stage

    yield from make_stage(tmp_path_factory.mktemp("stage"))


@pytest.fixture
def terminal(tmp_path, monkeypatch):
    """Return what opens a shell with the hook in a terminal of its own (``terminal_cases.py``)."""
    from terminal_cases import Terminal

    opened: list[Terminal] = []
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "false")
    monkeypatch.setenv("OMNIMEMORY_CACHE_PATH", str(tmp_path / "cache"))

    def start(shell: str, *first: str, hook: bool = True) -> Terminal:
        opened.append(Terminal(shell, tmp_path, f"tmux{len(opened)}", first, hook=hook))
        return opened[-1]

    yield start
    for one in opened:
        one.close()
