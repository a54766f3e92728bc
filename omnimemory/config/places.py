"""Where settings are read from: the user's file, the project's file and the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omnimemory.config.settings import SECTIONS, SPECS, parse_value, unknown_key, user_folder
from omnimemory.config.spec import from_text
from omnimemory.errors import ConfigError

__all__ = ["Found", "project_file", "read_environment", "read_file", "user_file", "working_folder"]

_MAX_FILE_BYTES = 256 * 1024
_TABLE_LINE = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_KEY_LINE = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_NOT_SETTINGS = ("OMNIMEMORY_CONFIG", "OMNIMEMORY_DEBUG", "OMNIMEMORY_FAULTS")


def _variable(key: str) -> str:
    return f"OMNIMEMORY_{key.replace('.', '_').upper()}"


_VARIABLES = {_variable(key): key for key in SPECS} | {"OMNIMEMORY_STORE": "store.path"}


class Found(NamedTuple):
    """A value and the place that gave it."""

    value: Any
    origin: str


def user_file(environ: Mapping[str, str], folder: Path) -> Path:
    """Return where the user's own settings are, or would be."""
    named = environ.get("OMNIMEMORY_CONFIG")
    return folder / Path(named).expanduser() if named else user_folder("config") / "config.toml"


def project_file(environ: Mapping[str, str], folder: Path) -> Path | None:
    """Return the nearest ``omnimemory.toml`` from ``folder`` up to the root of its git repository or the user's home.

    Outside of both only ``folder`` itself counts: anybody may write to a shared folder such as ``/tmp``.
    """
    home = Path(environ.get("HOME") or Path.home())
    above = [folder, *folder.parents]
    last = next((n for n, place in enumerate(above) if place == home or _there(place / ".git")), 0)
    files = (place / "omnimemory.toml" for place in above[: last + 1])
    return next((file for file in files if _there(file)), None)


def _there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def working_folder() -> Path:
    """Return the current directory."""
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError(f"the current directory is gone ({error.strerror}): change to one that exists") from None


def read_environment(environ: Mapping[str, str], folder: Path) -> dict[str, Found]:
    """Return the settings that the environment gives; relative paths count from ``folder``."""
    found: dict[str, Found] = {}
    for name, text in environ.items():
        if not name.startswith("OMNIMEMORY_") or name in _NOT_SETTINGS or not text:
            continue
        if name not in _VARIABLES:
            raise ConfigError(f"the environment variable {name}: {unknown_key(name, _VARIABLES)}")
        key = _VARIABLES[name]
        value = parse_value(key, from_text(text, SPECS[key].kind), f"the environment variable {name}", folder)
        if key in found and found[key].value != value:
            raise ConfigError("OMNIMEMORY_STORE and OMNIMEMORY_STORE_PATH name different stores: unset one of them")
        found[key] = Found(value, f"the environment variable {name}")
    return found


def read_file(path: Path, *, restricted: bool) -> dict[str, Found]:
    """Return the settings of one TOML file; a ``restricted`` one may hold only what :attr:`Spec.project` allows."""
    text = _file_text(path)
    lines = _key_lines(text)
    found: dict[str, Found] = {}
    for key, value in _flat(_toml(path, text)):
        origin = f"{path}:{lines.get(key) or lines.get(key.split('.')[0], 1)}"
        if restricted and key in SPECS and not SPECS[key].project:
            raise ConfigError(
                f"{origin}: a project's file may not set {key}, because a clone must not decide about your memory: "
                f"set it in your own file (`omnimemory config path`) or as {_variable(key)}"
            )
        found[key] = Found(parse_value(key, value, origin, path.parent), origin)
    return found


def _file_text(path: Path) -> str:
    try:
        if not path.is_file():
            raise ConfigError(
                f"{path}: the settings file {'is not a regular file' if path.exists() else 'does not exist'}"
            )
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: the settings file cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: the settings file is not UTF-8") from error
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path}: the settings file is larger than {_MAX_FILE_BYTES} bytes")
    return text


def _toml(path: Path, text: str) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - not needed without a file

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        line = at[1] if at else text.count("\n") + 1
        raise ConfigError(f"{path}:{line}: this is not TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: the settings file is nested too deeply") from error


def _flat(tables: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, values in tables.items():
        if isinstance(values, dict) and (values or section in SECTIONS):
            yield from ((f"{section}.{name}", value) for name, value in values.items())
        else:
            yield section, values


def _key_lines(text: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        header, key = _TABLE_LINE.match(line), _KEY_LINE.match(line)
        if header:
            table = _plain_key(header[1])
            lines.setdefault(table, number)
        elif key:
            lines.setdefault(f"{table}.{_plain_key(key[1])}".lstrip("."), number)
    return lines


def _plain_key(dotted: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in dotted.split("."))
