"""The models that are known by name, from the table in ``models.toml`` and from the user's own table.

A card says what a model is (size of its vectors, tokens it reads, prompts, licence) and where its files are. The user's
table has the same form; an entry of a known name replaces that. A table that is damaged is an error, not half a table.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from omnimemory.embedders.base import Role
from omnimemory.errors import ConfigError

__all__ = ["CAPABILITIES", "ModelCard", "find_card", "known_models"]

CAPABILITIES = ("english", "multilingual", "prompts", "matryoshka", "long", "embedded")

_NAME = "abcdefghijklmnopqrstuvwxyz0123456789._-"
_PROVIDERS = ("static", "onnx", "mlx")
_HEX = set("0123456789abcdef")
_MOST_BYTES = 1 << 20

_USUAL_FILES = {"model.safetensors": "", "tokenizer.json": "", "config.json": ""}


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model.

    ``dims`` are the smaller sizes its vectors may be cut to, ``bytes`` what is downloaded, ``precision`` the usual one.
    ``files`` maps the names of its files to their sha256 ("" where that is not known); ``hub`` is where they are on
    Hugging Face, ``package`` a package on PyPI that carries them in ``package_folder``.
    """

    name: str
    provider: str
    dim: int
    bytes: int
    licence: str
    aliases: tuple[str, ...] = ()
    dims: tuple[int, ...] = ()
    max_tokens: int | None = None
    capabilities: tuple[str, ...] = ()
    prompts: Mapping[Role, str] = field(default_factory=dict)
    precision: str = "float32"
    note: str = ""
    hub: str | None = None
    revision: str | None = None
    package: str | None = None
    package_folder: str = ""
    files: Mapping[str, str] = field(default_factory=lambda: dict(_USUAL_FILES))


def known_models(table: Path | None = None) -> dict[str, ModelCard]:
    """Return all cards by name; ``table`` is the user's own, if it exists. Raises :class:`ConfigError`."""
    own = resources.files("omnimemory.embedders").joinpath("models.toml").read_bytes()
    cards = _cards(own, "models.toml")
    if table is not None and table.exists():
        cards |= _cards(_user_bytes(table), str(table))
        _check_names(cards, str(table))
    return cards


def _check_names(cards: Mapping[str, ModelCard], origin: str) -> None:
    """Raise :class:`ConfigError` for a name or alias that means two models."""
    owners: dict[str, str] = {}
    for card in cards.values():
        for word in (card.name.lower(), *card.aliases):
            owner = owners.setdefault(word, card.name)
            if owner != card.name:
                raise ConfigError(f"{origin}: [{card.name}]: {word!r} is a name of {owner} already: choose another")


def find_card(name: str, cards: Mapping[str, ModelCard], origin: str = "") -> ModelCard:
    """Return the card of a name or alias, whatever its case. Raises :class:`ConfigError` with the nearest name."""
    wanted = name.strip().lower()
    for card in cards.values():
        if wanted in (card.name.lower(), *card.aliases):
            return card
    names = [alias for card in cards.values() for alias in (card.name, *card.aliases)]
    close = difflib.get_close_matches(name, names, 1)
    fix = f"Did you mean {close[0]}?" if close else "`omnimemory models list` shows those that are known."
    raise ConfigError(f"{origin and f'{origin}: '}There is no model {name!r:.80}. {fix}")


def _user_bytes(table: Path) -> bytes:
    try:
        with table.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{table}: the table of models cannot be read: {error.strerror}") from error
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{table}: the table of models is larger than {_MOST_BYTES} bytes")
    return data


def _cards(data: bytes, origin: str) -> dict[str, ModelCard]:
    import tomllib  # noqa: PLC0415 - a model that was pulled needs no table

    try:
        table = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{origin}: this is no table of models: {error}") from error
    return {name: _card(name, entry, origin) for name, entry in table.items()}


def _card(name: str, entry: Any, origin: str) -> ModelCard:
    place = f"{origin}: [{name}]"
    if not name or set(name.lower()) - set(_NAME) or name.startswith("."):
        raise ConfigError(f"{place}: a model's name is made of letters, digits, dots, dashes and underscores")
    if not isinstance(entry, dict):
        raise ConfigError(f"{place}: this is a value where a table of a model is expected")
    own = {item.name: item for item in fields(ModelCard) if item.name != "name"}
    unknown = sorted(entry.keys() - own.keys())
    if unknown:
        hint = "; a name with a dot must stand in quotes" if isinstance(entry[unknown[0]], dict) else ""
        raise ConfigError(f"{place}: there is no key {unknown[0]!r}; known are {', '.join(own)}{hint}")
    needed = [key for key, item in own.items() if item.default is MISSING and item.default_factory is MISSING]
    missing = [key for key in needed if key not in entry]
    if missing:
        raise ConfigError(f"{place}: {', '.join(missing)} is missing")
    return ModelCard(name=name, **{key: _checked(key, value, place) for key, value in entry.items()})


def _checked(key: str, value: Any, place: str) -> Any:
    """Return a value of a card in its final type, or raise :class:`ConfigError`."""
    if key in ("dim", "bytes", "max_tokens"):
        return _require(type(value) is int and value > 0, value, f"{place}: {key} must be a whole number above 0")
    if key == "dims":
        whole = isinstance(value, list) and all(type(item) is int and item > 0 for item in value)
        return tuple(_require(whole, value, f"{place}: dims must be a list of whole numbers"))
    if key in _PARTS:
        kind: type = dict if key in ("prompts", "files") else list
        items = list(value.values()) if isinstance(value, dict) else value
        right = isinstance(value, kind) and all(isinstance(item, str) for item in items)
        return _PARTS[key](_require(right, value, f"{place}: {key} must be a {kind.__name__} of texts"), place)
    text = _require(isinstance(value, str) and value, value, f"{place}: {key} must be a text that is not empty")
    choices = {"provider": _PROVIDERS, "precision": ("float32", "bfloat16", "int8")}.get(key, (text,))
    return _require(text in choices, text, f"{place}: {key} must be one of {', '.join(choices)}")


def _require(right: object, value: Any, message: str) -> Any:
    if not right:
        raise ConfigError(f"{message}, not {value!r:.80}")
    return value


def _aliases(value: Sequence[str], _: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in value)


def _capabilities(value: Sequence[str], place: str) -> tuple[str, ...]:
    _known_names(value, CAPABILITIES, f"{place}: capabilities")
    return tuple(value)


def _prompts(value: Mapping[str, str], place: str) -> Mapping[str, str]:
    _known_names(value, get_args(Role), f"{place}: prompts")
    return dict(value)


def _files(value: Mapping[str, str], place: str) -> Mapping[str, str]:
    for name, sha256 in value.items():
        parts = PurePosixPath(name).parts
        if not parts or "\\" in name or any(part == "/" or part.startswith(".") for part in parts):
            raise ConfigError(f"{place}: {name!r:.80} is no name of a file inside of a model's folder")
        if sha256 and (len(sha256) != 64 or set(sha256) - _HEX):
            raise ConfigError(f"{place}: the sha256 of {name} must be 64 hexadecimal digits in small letters, or empty")
    return dict(value)


def _known_names(names: Collection[str], known: Sequence[str], place: str) -> None:
    foreign = sorted(set(names) - set(known))
    if foreign:
        raise ConfigError(f"{place} knows {', '.join(known)}, not {foreign[0]!r:.80}")


_PARTS: dict[str, Callable[[Any, str], Any]] = {
    "aliases": _aliases,
    "capabilities": _capabilities,
    "prompts": _prompts,
    "files": _files,
}
