"""The room that control groups leave this process, for versions 1 and 2, mixed or nested.

A container, a systemd slice or a batch system limits memory by control group, and every ancestor counts: the
limit often sits two levels above the process. Room is ``min(max, high) - (usage - inactive_file -
slab_reclaimable)``, because page cache that the kernel would drop counts as used there. The own directory is
found through ``/proc/self/cgroup`` and the mount table (a container sees its group as the root of the mount).

Facts: Linux ``admin-guide/cgroup-v1/memory`` and ``admin-guide/cgroup-v2``, cgroups(7), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["ABSURD", "BAD", "ControlGroups", "Reading", "contents", "number"]

ABSURD = 1 << 60
"""No machine has this many bytes; version 1 writes "no limit" as a number above it."""
BAD = (OSError, ValueError)
"""What reading a file that should hold a number of bytes can raise."""
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one source says. ``bytes`` is the room it leaves (``None``: it gave no figure), ``total`` its limit.

    ``note`` is empty unless something was wrong with the source or had to be estimated.
    """

    source: str
    bytes: int | None
    note: str = ""
    total: int = 0


@dataclass(frozen=True, slots=True)
class _Version:
    """The names one version gives to its files and to the fields of ``memory.stat``."""

    name: str
    limits: tuple[str, ...]
    usage: str
    reclaimable: tuple[bytes, ...]
    parts: tuple[bytes, ...]  # their sum is the usage, where the usage itself cannot be read


_V1 = _Version(
    name="cgroup1",
    limits=("memory.limit_in_bytes",),
    usage="memory.usage_in_bytes",
    reclaimable=(b"total_inactive_file",),
    parts=(b"total_rss", b"total_cache"),
)
_V2 = _Version(
    name="cgroup2",
    limits=("memory.max", "memory.high"),
    usage="memory.current",
    reclaimable=(b"inactive_file", b"slab_reclaimable"),
    parts=(b"anon", b"file", b"slab", b"kernel_stack", b"pagetables", b"percpu", b"sock"),
)


@dataclass(frozen=True, slots=True)
class _Mount:
    """A mounted hierarchy: the group ``root`` is what is seen at ``point``."""

    version: _Version
    root: PurePosixPath
    point: Path


class ControlGroups:
    """The memory control groups of this process; ``root`` is where ``/proc`` and ``/sys`` are looked for.

    Where they are is remembered as long as ``/proc/self/cgroup`` stays the same, so a fork or a move to
    another group is noticed. Safe to call from several threads.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._membership = root / "proc/self/cgroup"
        self._resolved: tuple[bytes, tuple[_Group, ...], str] | None = None

    def readings(self) -> Iterator[Reading]:
        """Yield a reading for each group with a limit, innermost first, and for each that cannot be read."""
        try:
            raw = contents(self._membership)
        except FileNotFoundError:
            return  # a kernel without control groups
        except OSError as error:
            yield Reading("cgroup", None, str(error))
            return
        groups, note = self._groups_of(raw)
        if note:
            yield Reading("cgroup", None, note)
        yield from (reading for group in groups if (reading := group.reading()))

    def folders(self, version: str) -> list[Path]:
        """Return the folders of this process's groups of one version ("cgroup1" or "cgroup2"), innermost first."""
        try:
            raw = contents(self._membership)
        except OSError:
            return []
        return [group.folder for group in self._groups_of(raw)[0] if group.version == version]

    def _groups_of(self, raw: bytes) -> tuple[tuple[_Group, ...], str]:
        if self._resolved is None or self._resolved[0] != raw:
            self._resolved = (raw, *self._resolve(raw))
        return self._resolved[1:]

    def _resolve(self, membership: bytes) -> tuple[tuple[_Group, ...], str]:
        note = ""
        try:
            mounts = list(_mounts((self._root / "proc/self/mountinfo").read_bytes(), self._root))
        except OSError as error:
            note = f"{error}; the usual places of control groups are assumed"
            usual = ((_V1, "memory"), (_V2, ""), (_V2, "unified"))
            mounts = [_Mount(v, PurePosixPath("/"), self._root / "sys/fs/cgroup" / name) for v, name in usual]
        groups = [
            _Group(version, folder, f"{version.name}:{os.fsencode(name).decode(errors='backslashreplace')}")
            for version, path in _memberships(membership)
            for folder, name in _ancestors(path, [m for m in mounts if m.version is version])
        ]
        return tuple(groups), note


class _Group:
    """One control group: which files to read and how to add them up."""

    def __init__(self, version: _Version, folder: Path, source: str) -> None:
        self._version, self._source = version, source
        self.version, self.folder = version.name, folder
        self._limits = tuple(folder / name for name in version.limits)
        self._usage, self._stat = folder / version.usage, folder / "memory.stat"

    def reading(self) -> Reading | None:
        """Return the room this group leaves, or ``None`` when it sets no limit."""
        limit, note = self._limit()
        if limit is None:
            return Reading(self._source, None, note) if note else None
        notes = [note] if note else []
        cache, parts = self._memory_stat(notes)
        try:
            usage = number(contents(self._usage), ABSURD)
        except BAD as error:
            notes.append(str(error))
            usage = parts or limit  # a limit whose use is unknown leaves no room that could be promised
            cache = cache if parts else 0
        if cache > usage:
            notes.append(f"{cache} bytes of page cache in {usage} used is absurd; it counts as used")
            cache = 0
        room = max(0, limit - (usage - cache))
        return Reading(self._source, room, "; ".join(notes), limit)

    def _limit(self) -> tuple[int | None, str]:
        """Return the lowest limit of this group, and what was wrong with the others."""
        limits, notes = [], []
        for path in self._limits:
            try:
                raw = contents(path)
                if raw.strip() != b"max" and (limit := number(raw)) < ABSURD:
                    limits.append(limit)
            except FileNotFoundError:
                continue  # the memory controller is off at this level
            except BAD as error:
                notes.append(f"{path.name}: {error}")
        return min(limits, default=None), "; ".join(notes)

    def _memory_stat(self, notes: list[str]) -> tuple[int, int]:
        """Return the bytes the kernel would give back, and the sum of the parts of the usage."""
        try:
            lines = (line.partition(b" ") for line in contents(self._stat).split(b"\n"))
            stat = {name: value for name, _, value in lines}
            cache = sum(number(stat[name], ABSURD) for name in self._version.reclaimable if name in stat)
            return cache, sum(number(stat[name], ABSURD) for name in self._version.parts if name in stat)
        except BAD as error:
            notes.append(f"memory.stat: {error}; page cache counts as used")
            return 0, 0


def contents(path: Path) -> bytes:
    """Return a small file of ``/proc`` or ``/sys``, which the kernel hands out in one read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)


def number(raw: bytes, most: int | None = None) -> int:
    """Return the number of bytes a file holds; a sign, a word or more than ``most`` is a ``ValueError``."""
    text = raw.strip()
    if not text.isdigit() or len(text) > 40 or (most is not None and int(text) > most):
        raise ValueError(f"{text[:40].decode(errors='replace')!r} is no sensible number of bytes")
    return int(text)


def _memberships(raw: bytes) -> Iterator[tuple[_Version, PurePosixPath]]:
    """Yield the memory groups of ``/proc/self/cgroup``: lines ``id:controllers:path``, id 0 is version 2."""
    for line in raw.split(b"\n"):
        identifier, _, rest = line.partition(b":")
        controllers, colon, path = rest.partition(b":")
        if not colon:
            continue
        if identifier == b"0" and not controllers:
            yield _V2, PurePosixPath(os.fsdecode(path))
        elif b"memory" in controllers.split(b","):
            yield _V1, PurePosixPath(os.fsdecode(path))


def _mounts(raw: bytes, base: Path) -> Iterator[_Mount]:
    """Yield the control group hierarchies of a mount table that can hold memory limits."""
    for line in raw.split(b"\n"):
        left, _, right = line.partition(b" - ")
        fields, kind = left.split(b" "), right.split(b" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == b"cgroup2" or (kind[0] == b"cgroup" and b"memory" in kind[2].split(b",")):
            version = _V2 if kind[0] == b"cgroup2" else _V1
            yield _Mount(version, PurePosixPath(_path(fields[3])), base / _path(fields[4]).lstrip("/"))


def _path(field: bytes) -> str:
    """Return a path of the mount table, where blanks and backslashes are written as three octal digits."""
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field))


def _ancestors(path: PurePosixPath, mounts: Iterable[_Mount]) -> Iterator[tuple[Path, str]]:
    """Yield folder and name of the group at ``path`` and of all above it that a mount shows."""
    by_depth = sorted(mounts, key=lambda mount: len(mount.root.parts))
    for mount in by_depth:  # the least deep root shows the most ancestors
        if path.is_relative_to(mount.root) and ".." not in (inside := path.relative_to(mount.root)).parts:
            yield from ((mount.point / step, f"/{step}" if step.parts else "/") for step in (inside, *inside.parents))
            return
    # The path is told from outside this namespace: the mounted groups are the nearest that can be seen.
    yield from ((mount.point, "/") for mount in by_depth[:1])
