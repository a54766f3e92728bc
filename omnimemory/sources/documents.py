r"""Files and folders to documents: what is there, and what one file says.

:func:`walk` opens no file but the ignore files: each entry costs its share of a directory listing and one ``stat``,
so a caller that remembers size, time and inode learns for next to nothing that nothing changed. :func:`read` opens
a file so that it can neither block (a FIFO), nor follow a link, nor exceed its limit (sparse and growing files), and
notices when the file changed under its hands. Names are kept as they are; a name that is not valid UTF-8 is shown
with ``\xNN`` for each foreign byte in the document's ``uri``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from omnimemory.errors import SourceError
from omnimemory.faults import reach
from omnimemory.records import Document, Failure
from omnimemory.sources.formats import parse, unread_kind
from omnimemory.sources.formats.decoding import SkippedError
from omnimemory.sources.ignore import RULE_FILES, Patterns, Rules, is_cache_folder, is_noise, patterns_above

__all__ = ["Found", "Limits", "SkippedError", "read", "walk"]

_MIB = 1024 * 1024
_PIECE = _MIB // 4
_MOST_RULES = 10_000  # each file is compared with each of them
_KINDS = (
    (stat.S_ISFIFO, "a FIFO (named pipe)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISDIR, "a folder"),
)
_REASONS = {
    errno.EACCES: "permission denied; make it readable for you, or exclude it",
    errno.EPERM: "permission denied; make it readable for you, or exclude it",
    errno.ENOENT: "no such file or folder; it vanished, or its name is mistyped",
    errno.ENOTDIR: "no such file or folder; a part of the path is not a folder",
    errno.ELOOP: "a symbolic link where a file was expected; ingest what it points to",
    errno.ENAMETOOLONG: "the path is too long for the operating system; ingest the folder from further inside",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a walk takes. ``include`` and ``exclude`` are patterns as in a ``.gitignore``, relative to the root.

    ``max_bytes`` is the size of a file, and of what a compressed file unpacks to; ``max_depth`` counts folders below
    the root. With ``include``, only the files it matches are taken; it takes back nothing that is ignored.
    """

    max_bytes: int = 32 * _MIB
    max_depth: int = 64
    hidden: bool = False
    gitignore: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_symlinks: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A file worth reading: ``path`` to open it, ``uri`` to name it for ever, and what tells that it changed.

    ``uri`` is the absolute POSIX path, with the root's links resolved; it has no lone surrogates.
    """

    path: Path
    uri: str
    size: int
    mtime_ns: int
    inode: int
    device: int


def walk(root: Path, limits: Limits) -> Iterator[Found | Failure]:
    """Yield the files below ``root`` (or ``root`` itself, if it is a file) sorted by name, folder by folder.

    Ignored and hidden entries are passed over in silence, and so are links to what is in ``root`` anyway. Everything
    else that is not taken is a :class:`Failure`: an error when it could not be looked at, a harmless skip when it is
    too large, too deep, special, no text by its name, or a link out of ``root``. A ``root`` is always taken, even if
    it is hidden or ignored. Raises :class:`~omnimemory.errors.ConfigError` for a malformed pattern.
    """
    top = os.path.realpath(root)
    return _Walk(top, limits, Rules(f"{top.rstrip('/')}/", limits.include, limits.exclude)).run()


def read(found: Found, limits: Limits) -> Document:
    """Return the text of a file with its format, headings and metadata.

    The reason is the message of the error: :class:`SkippedError` when the file is not text, empty or too large;
    :class:`~omnimemory.errors.SourceError` when it cannot be read, is damaged, or changed twice while it was read.
    """
    data = _at_rest(found.path, limits.max_bytes, _fill)
    try:
        return parse(found.uri, data, max_bytes=limits.max_bytes)
    except SourceError:
        raise
    except MemoryError:
        raise SourceError("reading it takes more memory than there is; exclude it") from None
    except Exception as error:  # one file, however broken, must not end the run
        raise SourceError(f"its reader failed ({type(error).__name__}); exclude it, and please report this") from error


def _uri(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _failure(path: str, error: OSError) -> Failure:
    return Failure(_uri(path), _reason(error))


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0) or f"cannot be read: {error.strerror}"


def _kind(mode: int) -> str:
    return next((kind for test, kind in _KINDS if test(mode)), "a special file")


def _too_large(size: int, limit: int) -> str:
    return f"too large: {size / _MIB:,.1f} MiB, the limit is {limit / _MIB:,.1f} MiB (max_bytes)"


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str
    depth: int
    above: tuple[Patterns, ...]


class _Walk:
    """One walk below ``top``; folders wait on a stack of generators, so depth costs no recursion."""

    def __init__(self, top: str, limits: Limits, rules: Rules) -> None:
        self._top = top
        self._limits = limits
        self._rules = rules
        self._rule_files = RULE_FILES if limits.gitignore else RULE_FILES[1:]
        self._visited: set[tuple[int, int]] = set()
        self._troubles: list[Failure] = []

    def run(self) -> Iterator[Found | Failure]:
        try:
            status = os.stat(self._top)  # noqa: PTH116 - paths are plain strings here, for speed
        except OSError as error:
            yield _failure(self._top, error)
            return
        if not stat.S_ISDIR(status.st_mode):
            yield self._file(self._top, self._top, status)
            return
        self._visited.add((status.st_dev, status.st_ino))
        above = patterns_above(Path(self._top), self._rule_files, self._lines)
        stack = [self._entries(_Folder(self._top, 0, above))]
        while stack:
            item = next(stack[-1], None)
            if item is None:
                stack.pop()
            elif isinstance(item, _Folder):
                stack.append(self._entries(item))
            else:
                yield item

    def _entries(self, folder: _Folder) -> Iterator[Found | Failure | _Folder]:
        try:
            with os.scandir(folder.path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            yield _failure(folder.path, error)
            return
        names = frozenset(entry.name for entry in entries)
        if folder.depth and is_cache_folder(names):
            return
        inside = _Folder(folder.path, folder.depth, folder.above + self._rules_in(folder.path, names))
        yield from self._troubles
        self._troubles.clear()
        for entry in entries:
            item = self._entry(entry, inside, names)
            if item is not None:
                yield item

    def _entry(
        self, entry: os.DirEntry[str], folder: _Folder, names: frozenset[str]
    ) -> Found | Failure | _Folder | None:
        if entry.name.startswith(".") and not self._limits.hidden:
            return None
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_noise(entry.name, is_folder, names):
                return None
            if self._rules.ignores(f"{entry.path}/" if is_folder else entry.path, folder.above):
                return None
            if entry.is_symlink():
                return self._link(entry.path, folder)
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            return _failure(entry.path, error)
        return self._folder(entry.path, folder, status) if is_folder else self._file(entry.path, entry.path, status)

    def _folder(self, path: str, parent: _Folder, status: os.stat_result) -> _Folder | Failure:
        if parent.depth >= self._limits.max_depth:
            reason = f"deeper than {self._limits.max_depth} folders (max_depth); ingest it by its own path"
            return Failure(_uri(path), reason, error=False)
        if (status.st_dev, status.st_ino) in self._visited:
            return Failure(_uri(path), "a folder seen before in this walk: a loop of links or mounts", error=False)
        self._visited.add((status.st_dev, status.st_ino))
        return _Folder(path, parent.depth + 1, parent.above)

    def _file(self, path: str, name: str, status: os.stat_result) -> Found | Failure:
        uri = _uri(name)
        if not stat.S_ISREG(status.st_mode):
            return Failure(uri, f"not a file but {_kind(status.st_mode)}", error=False)
        if status.st_size > self._limits.max_bytes:
            return Failure(uri, _too_large(status.st_size, self._limits.max_bytes), error=False)
        kind = unread_kind(uri)
        if kind is not None:
            return Failure(uri, f"not text: {kind}", error=False)
        return Found(Path(path), uri, status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)

    def _link(self, path: str, parent: _Folder) -> Found | Failure | _Folder | None:
        target = os.path.realpath(path)
        try:
            status = os.stat(target)  # noqa: PTH116 - paths are plain strings here, for speed
        except OSError as error:
            reason = "a symbolic link to itself" if error.errno == errno.ELOOP else "a symbolic link to nothing"
            return Failure(_uri(path), reason, error=False)
        if target == self._top or target.startswith(f"{self._top.rstrip('/')}/"):
            return None
        if not self._limits.follow_symlinks:
            return Failure(_uri(path), "a symbolic link out of the folder (follow_symlinks is off)", error=False)
        if stat.S_ISDIR(status.st_mode):
            return self._folder(path, parent, status)
        return self._file(target, path, status)

    def _rules_in(self, path: str, names: frozenset[str]) -> tuple[Patterns, ...]:
        present = [name for name in self._rule_files if name in names]
        base = f"{path.rstrip('/')}/"
        return tuple(Patterns(base, lines) for name in present if (lines := self._lines(Path(path, name))))

    def _lines(self, path: Path) -> tuple[str, ...]:
        """Return the lines of an ignore file; one that cannot be read is reported, and the walk goes on."""
        try:
            data = _contents(path, _MIB, _fill) or b""
        except SourceError as error:
            self._troubles.append(Failure(_uri(str(path)), f"its rules are not applied: {error}"))
            return ()
        lines = tuple(os.fsdecode(data).splitlines())
        if len(lines) > _MOST_RULES:
            reason = f"its rules are not applied: {len(lines):,} lines, {_MOST_RULES:,} are the most; shorten it"
            self._troubles.append(Failure(_uri(str(path)), reason))
            return ()
        return lines


def _at_rest(path: Path, limit: int, fill: Callable[[int, int], bytes]) -> bytes:
    """Return the bytes of a file, read again if it changed while it was read."""
    for _attempt in range(2):
        data = _contents(path, limit, fill)
        if data is not None:
            return data
    raise SourceError("it changed while it was read, twice; ingest it again when it is at rest")


def _contents(path: Path, limit: int, fill: Callable[[int, int], bytes]) -> bytes | None:
    """Return the bytes of a regular file, or ``None`` if it changed meanwhile; ``fill`` reads an open file."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise SourceError(_reason(error)) from None
    try:
        reach("source.read")
        before = os.fstat(file)
        if not stat.S_ISREG(before.st_mode):
            raise SkippedError(f"not a file but {_kind(before.st_mode)}")
        if before.st_size > limit:
            raise SkippedError(_too_large(before.st_size, limit))
        data = fill(file, limit)
        after = os.fstat(file)
    except OSError as error:
        raise SourceError(_reason(error)) from None
    finally:
        os.close(file)
    if len(data) > limit:
        raise SkippedError(f"{_too_large(len(data), limit)} and it is growing")
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return data if same and (after.st_nlink or not before.st_nlink) else None


def _fill(file: int, limit: int) -> bytes:
    """Read an open file to its end, or to one byte more than ``limit``."""
    parts = []
    room = limit + 1
    while room > 0 and (part := os.read(file, min(room, _PIECE))):
        parts.append(part)
        room -= len(part)
    return b"".join(parts)
