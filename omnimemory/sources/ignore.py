"""Which files and folders a walk passes over in silence.

Three sources of rules: a short list of our own (below), ``.gitignore`` and ``.omnimemoryignore`` files with git's
rules (nested files, negation, the last matching rule of the deepest file wins; a folder that is ignored is not
entered, so nothing in it can be taken back), and the caller's ``include`` and ``exclude`` patterns in the same syntax.
The matching is pathspec's (``linear_patterns``); it is imported when the first pattern turns up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from omnimemory.errors import ConfigError

if TYPE_CHECKING:
    from omnimemory.sources.linear_patterns import PatternChecker

__all__ = ["RULE_FILES", "Patterns", "Rules", "is_cache_folder", "is_noise", "patterns_above"]

RULE_FILES = (".gitignore", ".omnimemoryignore")
"""Names of the files with rules; of one folder's two files, the later one wins."""

_FOLDERS = frozenset({
    *(".git", ".hg", ".svn", ".bzr"),  # what version control keeps
    *("node_modules", "bower_components", "site-packages", "__pycache__", ".venv"),  # other people's code
    *(".tox", ".nox", ".eggs", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".ipynb_checkpoints"),
})  # fmt: skip
_BUILD_FOLDERS = frozenset({"build", "dist", "target", "out"})
_BUILD_FILES = frozenset({
    *("pyproject.toml", "setup.py", "package.json", "Cargo.toml", "pom.xml", "build.gradle", "build.gradle.kts"),
    *("CMakeLists.txt", "meson.build", "build.sbt"),
})  # fmt: skip
_CACHE_TAGS = frozenset({"CACHEDIR.TAG", "pyvenv.cfg"})
_FILES = frozenset({
    *("package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "poetry.lock", "uv.lock"),
    *("Pipfile.lock", "pdm.lock", "Cargo.lock", "Gemfile.lock", "composer.lock", "go.sum", "flake.lock"),
    *("Thumbs.db", "desktop.ini", "searchindex.js", "objects.inv"),  # the last two are Sphinx's own search index
})  # fmt: skip
_ENDINGS = (
    *(".pyc", ".pyo", ".o", ".a", ".so", ".obj", ".class", ".dll", ".dylib", ".lib"),  # compiled
    *(".min.js", ".min.css", ".js.map", ".css.map"),  # minified
    *("~", ".swp", ".swo", ".bak", ".tmp"),  # left by editors
)


def is_noise(name: str, folder: bool, siblings: frozenset[str]) -> bool:
    """Return whether our own list ignores ``name``, which stands beside ``siblings``.

    ``build``, ``dist``, ``target`` and ``out`` are ignored only beside the project file of a build tool: elsewhere
    these are names people give to folders of notes.
    """
    if folder:
        built = name in _BUILD_FOLDERS and not _BUILD_FILES.isdisjoint(siblings)
        return built or name in _FOLDERS or name.endswith((".egg-info", ".dist-info"))
    return name in _FILES or name.endswith(_ENDINGS)


def is_cache_folder(names: frozenset[str]) -> bool:
    """Return whether a folder with these entries declares itself a cache (CACHEDIR.TAG) or a virtual environment."""
    return not _CACHE_TAGS.isdisjoint(names)


@dataclass(frozen=True)
class Patterns:
    """The rules of one ignore file, which speak of paths below ``base`` (an absolute path ending in a slash)."""

    base: str
    lines: tuple[str, ...]

    @cached_property
    def _checker(self) -> PatternChecker:
        return _compiled(self.lines)[0]

    def verdict(self, path: str) -> bool | None:
        """Return whether ``path`` (ending in a slash when it is a folder) is ignored; ``None`` when no rule speaks."""
        verdict: bool | None = self._checker.check_file(path[len(self.base) :]).include
        return verdict


def _compiled(lines: Iterable[str]) -> tuple[PatternChecker, int]:
    from omnimemory.sources.linear_patterns import compile_patterns  # noqa: PLC0415 - only where there are patterns

    return compile_patterns(lines)


class Rules:
    """The caller's patterns for one walk, relative to its root."""

    def __init__(self, root: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
        for pattern in (*include, *exclude):
            if not _compiled([pattern])[1]:
                raise ConfigError(f"{pattern!r} is not a pattern; write it as in a .gitignore, for example '*.md'")
        self._include = Patterns(root, include) if include else None
        self._exclude = Patterns(root, exclude) if exclude else None

    def ignores(self, path: str, above: tuple[Patterns, ...]) -> bool:
        """Return whether ``path`` is left out; ``above`` holds the ignore files from the outermost inwards."""
        if self._exclude and self._exclude.verdict(path):
            return True
        if self._include and not path.endswith("/") and not self._include.verdict(path):
            return True
        for patterns in reversed(above):
            verdict = patterns.verdict(path)
            if verdict is not None:
                return verdict
        return False


def patterns_above(root: Path, names: tuple[str, ...], read: Callable[[Path], tuple[str, ...]]) -> tuple[Patterns, ...]:
    """Return the rules of the git repository around ``root`` that reach into it, the outermost first.

    ``names`` are those of the ignore files; ``read`` returns the lines of one, or nothing. Rules that ignore ``root``
    itself are left out: a folder that is named explicitly is meant.
    """
    folders = (root, *root.parents)
    depth = next((n for n, folder in enumerate(folders) if _is_repository(folder, root)), 0)
    found = []
    for folder in reversed(folders[1 : depth + 1]):
        base = folder.as_posix().rstrip("/") + "/"
        files = [folder / name for name in names if (folder / name).is_file()]
        found += [Patterns(base, lines) for file in files if (lines := read(file))]
    return tuple(patterns for patterns in found if not patterns.verdict(f"{root.as_posix()}/"))


def _is_repository(folder: Path, root: Path) -> bool:
    """Return whether a folder is a git repository of this user or of the owner of ``root``.

    What somebody else puts above it, as anybody can into ``/tmp``, must not decide what is read, nor what is forgotten.
    """
    try:
        return (folder / ".git").stat().st_uid in (os.geteuid(), root.stat().st_uid)
    except OSError:
        return False
