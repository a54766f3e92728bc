"""Models that were pulled: a folder for each, with a manifest that says what it is and what its files must be.

The manifest holds the card as it was when the model was pulled, so that a pulled model needs no table any more, and the
sha256 of each file. A file whose size and time are those of the manifest is taken to be the one that was checked then;
anything else is read and compared, and refused when it differs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omnimemory.embedders.models import ModelCard
from omnimemory.errors import EmbedderError

__all__ = ["FileRecord", "InstalledModel", "file_record", "find_installed", "installed_models", "write_manifest"]

_MANIFEST = "manifest.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as it was checked: its sha256, its size, and when it was last changed (nanoseconds)."""

    sha256: str
    size: int
    changed: int


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model in its folder; ``origin`` says where it was pulled from."""

    card: ModelCard
    folder: Path
    origin: str
    files: Mapping[str, FileRecord]

    def digest(self, names: list[str]) -> str:
        """Return what names the content of these files: the sha256 of their sha256."""
        return hashlib.sha256(b"".join(bytes.fromhex(self.files[name].sha256) for name in names)).hexdigest()

    def check(self, *, read: bool = False) -> None:
        """Raise :class:`EmbedderError` unless every file is the one that was pulled; ``read`` compares every byte."""
        for name, known in self.files.items():
            path = self.folder / name
            try:
                found = path.stat()
                if not read and (found.st_size, found.st_mtime_ns) == (known.size, known.changed):
                    continue
                same = found.st_size == known.size and file_record(path).sha256 == known.sha256
            except OSError as error:
                raise EmbedderError(f"{path} cannot be read ({error.strerror}). {self._again()}") from error
            if not same:
                raise EmbedderError(f"{path} is not the file that was pulled. {self._again()}")

    def _again(self) -> str:
        return f"Pull it again: omnimemory models pull {self.card.name}"


def file_record(path: Path) -> FileRecord:
    """Read a file and return its record. Raises :class:`OSError`."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        found = os.fstat(stream.fileno())
    return FileRecord(digest, found.st_size, found.st_mtime_ns)


def write_manifest(folder: Path, card: ModelCard, origin: str, files: Mapping[str, FileRecord]) -> None:
    """Write the manifest of a folder, and make sure that it is on the disk."""
    data = {
        "format": _FORMAT,
        "card": asdict(card),
        "origin": origin,
        "files": {name: asdict(record) for name, record in files.items()},
    }
    descriptor = os.open(folder / _MANIFEST, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def find_installed(root: Path, name: str) -> InstalledModel | None:
    """Return a pulled model by its name or alias, or ``None``.

    Raises :class:`EmbedderError` for its damaged manifest; that of another model does not matter here.
    """
    exact = root / name
    if (exact / _MANIFEST).is_file():
        return _read(exact)
    wanted = name.lower()
    found = installed_models(root, damaged={})
    return next((one for one in found if wanted in (one.card.name.lower(), *one.card.aliases)), None)


def installed_models(root: Path, damaged: dict[Path, EmbedderError] | None = None) -> list[InstalledModel]:
    """Return all pulled models, by name.

    Raises :class:`EmbedderError` for a damaged manifest, or puts it into ``damaged`` with the model's folder.
    """
    if not root.is_dir():
        return []
    folders = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    found = []
    for folder in folders:
        if not (folder / _MANIFEST).is_file():
            continue
        try:
            found.append(_read(folder))
        except EmbedderError as error:
            if damaged is None:
                raise
            damaged[folder] = error
    return found


def _read(folder: Path) -> InstalledModel:
    path = folder / _MANIFEST
    try:
        data = json.loads(path.read_bytes())
        _check_format(data["format"])
        files = {str(name): _record(record) for name, record in data["files"].items()}
        return InstalledModel(_card(data["card"]), folder, str(data["origin"]), files)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EmbedderError(
            f"{path} cannot be read ({error}). Remove the folder {folder} and pull the model again."
        ) from error


def _check_format(found: object) -> None:
    if found != _FORMAT:
        raise ValueError(f"its format is {found!r}, this version knows {_FORMAT}")


def _record(data: Mapping[str, Any]) -> FileRecord:
    record = FileRecord(str(data["sha256"]), int(data["size"]), int(data["changed"]))
    bytes.fromhex(record.sha256)
    return record


def _card(data: Mapping[str, Any]) -> ModelCard:
    lists = ("aliases", "dims", "capabilities")
    given: dict[str, Any] = {key: tuple(value) if key in lists else value for key, value in data.items()}
    card = ModelCard(**given)
    if type(card.dim) is not int or not isinstance(card.name, str) or not isinstance(card.prompts, dict):
        raise ValueError("its card is malformed")
    return card
