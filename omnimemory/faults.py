"""Named points at which a run can be made to fail on purpose, so that tests can say what happens then.

A point stands at each effect on something that outlives the process. The environment variable
``OMNIMEMORY_FAULTS`` says what shall happen at which one; without it a point costs one comparison::

    OMNIMEMORY_FAULTS="commit.before:kill@3"      the third reach of this point in a process kills it
    OMNIMEMORY_FAULTS="cache.write:enospc@2+"     the disk is full from the second write to the cache on
    OMNIMEMORY_FAULTS="*:eio@7"                   whatever effect comes seventh fails
    OMNIMEMORY_FAULTS="drain.mark:pause=/tmp/go"  it waits until /tmp/go is there; /tmp/go.reached says so
    OMNIMEMORY_FAULTS="*:note=/tmp/reached"       each point that is reached is a line in that file

Several are separated by ``;``. Failing the N-th effect, N = 1, 2, ... until nothing fails any more, once and
then for ever, is how SQLite tests itself (sqlite.org/testing.html, "I/O error testing").
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from omnimemory.errors import ConfigError

__all__ = ["POINTS", "VARIABLE", "Plan", "parse_plan", "reach"]

VARIABLE = "OMNIMEMORY_FAULTS"

POINTS = (
    "catalog.create",  # a new catalog is complete, but does not have its name yet
    "catalog.read",  # before a query of the catalog
    "commit.before",  # everything of a transaction is written, nothing is committed
    "commit.after",  # it is committed, and nobody was told
    "cache.read",  # before vectors are looked up in the cache
    "cache.write",  # inside the cache's transaction
    "lock.take",  # before the lock of the index (or of a migration) is asked for
    "drainer.start",  # before the child process that drains is started
    "drain.change",  # before deletions and updates are applied to the index
    "drain.forget",  # they are applied, and still noted as to be done
    "drain.add",  # before rows are added to the index
    "drain.mark",  # they are added, and not marked as drained
    "index.open",  # the manifest is gone, the index not open yet
    "index.close",  # before the index is closed
    "manifest.write",  # it is closed, and has no manifest yet
    "manifest.switch",  # the manifest is written, and does not have its name yet
    "rebuild.fill",  # a generation is registered, its folder not made
    "rebuild.switch",  # it is filled and closed, the old one still active
    "rebuild.remove",  # it is active, the folders of others still there
    "migrate.copy",  # before the catalog is copied
    "migrate.upgrade",  # before the copy is migrated
    "migrate.backup",  # before the original becomes the backup
    "migrate.switch",  # before the copy takes the original's name
    "migrate.done",  # it has taken it
    "reembed.fill",  # before a batch of vectors of another model is stored
    "reembed.switch",  # the other model is the one that is searched, nothing of that is committed
    "reembed.drop",  # a slice of the vectors of a model is about to be gone
    "purge.cache",  # before vectors of what was forgotten go from the cache
    "purge.index",  # before old generations of the index go
    "purge.backup",  # before what was forgotten goes from a backup
    "purge.catalog",  # before the catalog's own file is written anew
    "source.read",  # before a document or a history is read
)
"""Every point, in the order of the layers."""

_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO, "eacces": errno.EACCES, "erofs": errno.EROFS}
_LOOK_SECONDS = 0.01


@dataclass(slots=True)
class _Rule:
    """What happens at a point (``*``: at any), at its ``first`` reach or, ``on``, also at all that follow."""

    name: str
    action: str
    path: str
    first: int
    on: bool
    reached: int = 0

    def is_due(self, name: str) -> bool:
        if self.name not in ("*", name):
            return False
        self.reached += 1
        return self.reached == self.first or (self.on and self.reached > self.first)


@dataclass(slots=True)
class Plan:
    """What shall happen in this process; counts how often each point was reached."""

    rules: Sequence[_Rule]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, name: str) -> None:
        """Do what is due at this point."""
        with self._lock:
            due = [rule for rule in self.rules if rule.is_due(name)]
        for rule in due:
            _act(rule, name)


def _act(rule: _Rule, name: str) -> None:
    if rule.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif rule.action == "note":
        with Path(rule.path).open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
    elif rule.action == "pause":
        Path(f"{rule.path}.reached").touch()
        while not Path(rule.path).exists():
            time.sleep(_LOOK_SECONDS)
    else:
        number = _ERRORS[rule.action]
        raise OSError(number, f"{os.strerror(number)} (on purpose: {name})")


def parse_plan(text: str) -> Plan | None:
    """Return the plan that the environment variable describes, ``None`` for an empty one.

    Raises :class:`ConfigError` for a point or an action that does not exist.
    """
    rules = [_rule(part.strip()) for part in text.split(";") if part.strip()]
    return Plan(rules) if rules else None


def _rule(text: str) -> _Rule:
    name, _, rest = text.partition(":")
    action, _, path = rest.partition("=")
    if action in ("note", "pause"):
        if not path:
            _refuse(text, f"{action} needs a path: {name}:{action}=PATH")
        first, on = 1, True
    else:
        action, _, when = rest.partition("@")
        number = when.removesuffix("+") or "1"
        if not number.isdecimal() or int(number) < 1:
            _refuse(text, f"{when!r} is not a number such as 3 or 3+")
        first, on = int(number), when.endswith("+")
    if name != "*" and name not in POINTS:
        _refuse(text, f"there is no point {name!r}; there are: {', '.join(POINTS)}")
    if action not in ("kill", "note", "pause", *_ERRORS):
        _refuse(text, f"there is no action {action!r}; there are: kill, note, pause, {', '.join(_ERRORS)}")
    return _Rule(name, action, path, first, on)


def _refuse(text: str, why: str) -> NoReturn:
    raise ConfigError(f"the environment variable {VARIABLE}: {text!r}: {why}")


_PLAN = parse_plan(os.environ.get(VARIABLE, ""))


def reach(name: str) -> None:
    """Say that a point is reached; without a plan nothing happens."""
    if _PLAN is not None:
        _PLAN.reach(name)
