"""Metadata filters: Chroma's ``where`` language, answered for a whole collection at once.

The meaning is Chroma's, checked against chromadb 1.5.9 by a test: integers and floats compare by value,
booleans and strings only with their own kind, ``$ne``, ``$nin`` and ``$not_contains`` also match records
that lack the key. Plain dictionaries with several keys, several operators on one key, and lists of several
kinds mean what they say (Chroma itself refuses them). One difference is on purpose: numbers compare
exactly, where Chroma cuts a float to an integer before it compares it with one (it finds 1 for ``1.5``).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnimemory.errors import ConfigError

__all__ = ["Column", "Mask", "check_where", "column_of", "match", "match_records"]

Mask = NDArray[np.bool_]
Comparison = Callable[[Any, Any], Any]

_MISSING, _STRING, _INTEGER, _REAL, _BOOLEAN, _LIST = range(6)
_KINDS = {"text": _STRING, "integer": _INTEGER, "real": _REAL, "true": _BOOLEAN, "false": _BOOLEAN, "array": _LIST}
_ORDER: dict[str, Comparison] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_NEGATED = {"$ne": "$eq", "$nin": "$in", "$not_contains": "$contains"}
_OPERATORS = {"$eq", "$in", "$contains", *_ORDER, *_NEGATED}
_DEEPEST = 100
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_EXAMPLE = 'For example {"topic": "api"}, {"year": {"$gte": 2024}} or {"$or": [{"a": 1}, {"b": 2}]}.'


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one metadata key for n records, split by kind so that numpy can compare them."""

    kinds: NDArray[np.uint8]
    integers: NDArray[np.int64]
    reals: NDArray[np.float64]
    codes: NDArray[np.int64]
    strings: dict[str, int]
    lists: dict[int, list[Any]]


def column_of(values: Iterable[tuple[str | None, Any]], decode: Callable[[str], list[Any]]) -> Column:
    """Build a column from (JSON type, value) pairs; ``decode`` reads the text of a list."""
    pairs = list(values)
    kinds = np.array([_KINDS.get(kind or "", _MISSING) for kind, _ in pairs], dtype=np.uint8)
    integers = np.zeros(len(pairs), dtype=np.int64)
    reals = np.zeros(len(pairs), dtype=np.float64)
    codes = np.full(len(pairs), -1, dtype=np.int64)
    strings: dict[str, int] = {}
    lists: dict[int, list[Any]] = {}
    for row, (kind, value) in enumerate(pairs):
        if kind == "text":
            codes[row] = strings.setdefault(value, len(strings))
        elif kind == "real" or (kind == "integer" and not _SMALLEST <= value <= _LARGEST):
            kinds[row], reals[row] = _REAL, value  # SQLite reads an integer beyond 64 bits as a float, too
        elif kind in ("integer", "true", "false"):
            integers[row] = value
        elif kind == "array":
            lists[row] = decode(value)
    return Column(kinds, integers, reals, codes, strings, lists)


def check_where(where: Mapping[str, Any], depth: int = 0) -> None:
    """Raise :class:`ConfigError` for a filter that is not one, saying what is wrong with it."""
    if depth > _DEEPEST:
        raise ConfigError(f"The filter is nested more than {_DEEPEST} levels deep. Put its parts into one $and or $or.")
    if not isinstance(where, Mapping) or not where:
        raise ConfigError(f"A filter is a non-empty dictionary, got {where!r}. {_EXAMPLE}")
    for key, condition in where.items():
        if key in ("$and", "$or"):
            if not isinstance(condition, list) or not condition:
                raise ConfigError(f"{key} takes a list of filters, got {condition!r}. {_EXAMPLE}")
            for part in condition:
                check_where(part, depth + 1)
        elif not isinstance(key, str) or key.startswith("$"):
            raise ConfigError(f"A filter has no operator {key!r} at its top: only $and and $or. {_EXAMPLE}")
        else:
            _check_condition(key, condition if isinstance(condition, Mapping) else {"$eq": condition})


def _check_condition(key: str, condition: Mapping[str, Any]) -> None:
    if not condition:
        raise ConfigError(f"The filter on {key!r} is empty. {_EXAMPLE}")
    for name, operand in condition.items():
        if name not in _OPERATORS:
            raise ConfigError(
                f"The filter on {key!r} has no operator {name!r}. Known: {', '.join(sorted(_OPERATORS))}."
            )
        if name in ("$in", "$nin"):
            if not isinstance(operand, list) or not operand or not all(_scalar(v) for v in operand):
                raise ConfigError(f"{name} on {key!r} takes a non-empty list of values, got {operand!r}.")
        elif name in _ORDER:
            if isinstance(operand, str | bool) or not _scalar(operand):
                raise ConfigError(f"{name} on {key!r} compares finite numbers of 64 bits, got {operand!r}.")
        elif not _scalar(operand):
            raise ConfigError(f"{name} on {key!r} takes a text, boolean or finite number of 64 bits, got {operand!r}.")


def _scalar(value: Any) -> bool:
    if isinstance(value, int):
        return _SMALLEST <= value <= _LARGEST
    return isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


def match_records(where: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Mask:
    """Return which of some records match, given their metadata as dictionaries."""

    def column(key: str) -> Column:
        values = [record.get(key) for record in records]
        return column_of(((_json_type(value), value) for value in values), list)

    return match(where, column, len(records))


def _json_type(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return {str: "text", int: "integer", float: "real", list: "array"}.get(type(value))


def match(where: Mapping[str, Any], column: Callable[[str], Column], rows: int) -> Mask:
    """Return which of ``rows`` records match; ``column`` gives the values of a key."""
    mask = np.ones(rows, dtype=np.bool_)
    for key, condition in where.items():
        if key == "$and":
            for part in condition:
                mask &= match(part, column, rows)
        elif key == "$or":
            any_of = np.zeros(rows, dtype=np.bool_)
            for part in condition:
                any_of |= match(part, column, rows)
            mask &= any_of
        else:
            values = column(key)
            for name, operand in (condition if isinstance(condition, Mapping) else {"$eq": condition}).items():
                mask &= _compare(values, name, operand)
    return mask


def _compare(column: Column, name: str, operand: Any) -> Mask:
    if name in _NEGATED:
        return ~_compare(column, _NEGATED[name], operand)
    if name == "$in":
        found = np.zeros(len(column.kinds), dtype=np.bool_)
        for value in operand:
            found |= _equal(column, value)
        return found
    if name == "$contains":
        return _contains(column, operand)
    if name == "$eq":
        return _equal(column, operand)
    return _numbers(column, _ORDER[name], operand)


def _equal(column: Column, value: Any) -> Mask:
    if isinstance(value, str):
        return np.asarray((column.kinds == _STRING) & (column.codes == column.strings.get(value, -2)), dtype=np.bool_)
    if isinstance(value, bool):
        return np.asarray((column.kinds == _BOOLEAN) & (column.integers == int(value)), dtype=np.bool_)
    return _numbers(column, operator.eq, value)


def _numbers(column: Column, compare: Comparison, value: float) -> Mask:
    # A whole number compares with integers as an integer: as floats, neighbours beyond 2**53 would be equal.
    whole = int(value) if float(value).is_integer() else value
    integers = (column.kinds == _INTEGER) & compare(column.integers, whole)
    reals = (column.kinds == _REAL) & _compare_reals(column.reals, compare, value)
    return np.asarray(integers | reals, dtype=np.bool_)


def _compare_reals(reals: NDArray[np.float64], compare: Comparison, value: float) -> Any:
    near = float(value)
    if near == value:  # Python compares an integer with a float exactly
        return compare(reals, near)
    if compare is operator.eq:
        return np.zeros(len(reals), dtype=np.bool_)
    above = reals >= near if near > value else reals > near
    return above if compare in (operator.gt, operator.ge) else ~above


def _contains(column: Column, value: Any) -> Mask:
    found = np.zeros(len(column.kinds), dtype=np.bool_)
    for row, values in column.lists.items():
        found[row] = any(type(value) is type(member) and value == member for member in values)
    return found
