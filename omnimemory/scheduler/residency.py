"""Models are loaded and unloaded here, for real: for room, because they are idle, or because somebody asks.

Which of them goes is decided elsewhere (``policy.py``, ``victims.py``, ``residents.py``). Loading and unloading happen
outside of the scheduler's lock, so that batches of other models go on. Idle models are unloaded by a thread that sleeps
until the next keep-alive runs out, or looks every half minute whether memory is short; without models there is none.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from omnimemory.errors import OmniMemoryError
from omnimemory.scheduler.admissions import Admissions
from omnimemory.scheduler.journal import read_journal
from omnimemory.scheduler.loadable import Loadable, Unloaded
from omnimemory.scheduler.residents import Entry
from omnimemory.scheduler.shared_models import SharedModels
from omnimemory.scheduler.warming import Warming

__all__ = ["Residency"]

_LOOK_SECONDS = 30.0
_SHORT = 1.0
_RECENT = 256 << 10  # bytes of decisions from which it is learned which model follows which


class Residency:
    """The models of one scheduler. Safe for several threads; made anew in a forked child by :meth:`begin`.

    In ``folder`` (``None``: nowhere) it is said which models this process holds, for whoever looks. ``tell`` is called
    when the counts may have changed.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.warms_up = False
        self.warm: Callable[[str], bool] = lambda _: False
        self.tell: Callable[[], object] = lambda: None
        self._models = SharedModels()

    def begin(self, changed: threading.Condition, admissions: Admissions) -> None:
        """Use this lock and these requests; no thread runs yet."""
        self._changed = changed
        self._admissions = admissions
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._said = False
        self.unloads: Counter[str] = Counter()
        self.warming = Warming()
        self._learned = False
        for model in self._models:
            self._enter(model)

    def know(self, model: Loadable, user: object = None) -> None:
        """Get to know a model that ``user`` brings; see :class:`SharedModels` for two of one name."""
        with self._changed:
            self._enter(self._models.bring(model, user))

    def forget(self, name: str) -> None:
        """Know a model no longer."""
        with self._changed:
            self._models.drop(name)
            self._admissions.residents.forget(name)

    def leave(self, user: object) -> None:
        """Forget what ``user`` brought. What of it is still loaded here and nobody else's is freed."""
        with self._changed:
            left, stay = self._models.leave(user)
            for model in left:
                if self._models.get(model.name) is None:
                    self._admissions.residents.forget(model.name)
            for model in stay:
                self._enter(model)
        for model in left:
            if not model.served and model.is_loaded():
                model.unload()
        self._wake.set()  # what is said of this process is not true any more

    def get(self, name: str) -> Loadable | None:
        """Return a model that is known."""
        return self._models.get(name)

    def entries(self) -> list[Entry]:
        """Return the models that are in memory, as they are now."""
        with self._changed:
            residents = self._admissions.residents
            for model in self._models:
                residents.sync(model.name, time.monotonic())
            return [replace(entry) for entry in residents if entry.here]

    def set_keep_alive(self, name: str, seconds: float | None) -> None:
        """Keep a model so long after its last use (``None``: for ever)."""
        with self._changed:
            entry = self._admissions.residents.get(name)
            if entry is not None:
                entry.keep_alive = seconds
        self.watch()
        self._wake.set()

    def set_pinned(self, name: str, *, pinned: bool) -> None:
        """Never unload a model by itself, or do so again."""
        with self._changed:
            entry = self._admissions.residents.get(name)
            if entry is not None:
                entry.pinned = pinned

    def unload(self, name: str, reason: str) -> Unloaded | None:
        """Unload a model that is idle; ``None`` if it is in use or not there. Raises what unloading raises."""
        with self._changed:
            residents = self._admissions.residents
            residents.sync(name, time.monotonic())
            model, epoch = self._models.get(name), residents.begin_unload(name)
        if epoch is None or model is None:
            return None
        freed = 0
        try:
            freed = model.unload()
        finally:
            with self._changed:
                residents.unloaded(name, epoch, time.monotonic())
                residents.sync(name, time.monotonic())
                self._changed.notify_all()
        self.unloads[reason] += 1
        with self._changed:
            self.warming.gone(name)
        return Unloaded(name, freed, reason)

    def make_room(self, names: tuple[str, ...]) -> int:
        """Unload idle models for a request; return how many went. What cannot be unloaded is not counted on again."""
        gone = 0
        for name in names:
            try:
                gone += self.unload(name, "room") is not None
            except OmniMemoryError:
                self.unloads["failed"] += 1
                self.forget(name)
        return gone

    def unload_idle(self) -> list[Unloaded]:
        """Unload what was not used for as long as it is kept, and, while memory is short, what is worth least."""
        with self._changed:
            now = time.monotonic()
            names = [(name, "idle") for name in self._admissions.residents.expired(now)]
            pressed = self._admissions.reclaim(now)
        names += [(pressed, "pressure")] if pressed and (pressed, "idle") not in names else []
        found = [self.unload(name, reason) for name, reason in names]
        return [one for one in found if one is not None]

    # -- ahead

    def used(self, name: str) -> None:
        """Note that a model is used; the scheduler's lock is held."""
        self.warming.used(name, time.monotonic())

    def warm_up(self) -> str:
        """Load the model that is probably used next, if it fits without anything going; return its name or nothing."""
        if not self.warms_up or len(self._models) < 2:
            return ""
        if not self._learned and self.folder is not None:
            self._learned = True
            recorded = read_journal(self.folder, tail=_RECENT)
            with self._changed:
                self.warming.learn(recorded)
        with self._changed:
            name = self.warming.next([model.name for model in self._models if not model.is_loaded()])
        if not name or not self.warm(name):
            return ""
        return name

    # -- the thread

    def watch(self) -> None:
        """Have idle models unloaded in time, if there are any."""
        if self._thread is not None:
            if self.warms_up and len(self._models) > 1:
                self._wake.set()
            return
        if self._next() is None:
            return
        self._thread = threading.Thread(
            target=_watch, args=(weakref.ref(self), self._wake), name="omnimemory-idle", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:  # no memory for a stack, or the interpreter ends: the next batch tries again
            self._thread = None

    def close(self) -> None:
        """End the thread."""
        thread, self._thread = self._thread, None
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)
            if self._said:
                self._publish(())

    def _publish(self, entries: Sequence[Entry]) -> None:
        from omnimemory.scheduler.presence import publish  # noqa: PLC0415 - beside the work, not before it

        if self.folder is not None:
            self._said = bool(entries)
            models = [(entry, self._models.get(entry.name)) for entry in entries]
            publish(self.folder, [entry for entry, model in models if model is not None and not model.served])

    def _next(self) -> float | None:
        """Return in how many seconds to look again; ``None`` when nothing is there that could go."""
        with self._changed:
            ends = [
                entry.expires()
                for entry in self._admissions.residents
                if entry.here and not entry.pinned and not entry.foreign
            ]
        if not ends:
            return None
        left = [end - time.monotonic() for end in ends if end is not None]
        return min([_LOOK_SECONDS, *(max(0.01, seconds) for seconds in left)])

    def _enter(self, model: Loadable) -> None:
        residents, rules, now = self._admissions.residents, self._admissions.rules, time.monotonic()
        entry = residents.get(model.name)
        if entry is None:
            kept, pinned = rules.kept(model.name), rules.pins(model.name)
            rank = rules.ranks(model.name)
            entry = residents.know(Entry(model.name, keep_alive=kept, pinned=pinned, priority=rank))
        # One that is known already may be in use: what is counted of it stays.
        several = entry.copies is not None
        entry.is_loaded, entry.foreign, entry.copies = model.is_loaded, model.foreign, model.copies
        entry.footprint = model.footprint or entry.footprint
        was_here = entry.here
        residents.sync(model.name, now)
        if several and model.copies is None and entry.here:
            entry.bytes = entry.footprint  # one of two has left
        if model.served and entry.here:
            entry.bytes, entry.pool = entry.footprint, "ram"  # by now its server has said what it really takes of that
            entry.since = entry.since if was_here else now - _LOOK_SECONDS  # it was there before it was seen


def _watch(owner: weakref.ref[Residency], wake: threading.Event) -> None:
    """Unload idle models until there are none, or until nobody needs them any more."""
    longest = _SHORT  # a command that ends at once need not say what it holds
    while True:
        residency = owner()
        seconds = None if residency is None else residency._next()  # noqa: SLF001 - its own thread
        if residency is None or residency._thread is not threading.current_thread():  # noqa: SLF001 - as above
            return
        if longest > _SHORT or seconds is None:
            residency._publish(residency.entries())  # noqa: SLF001 - as above
        if seconds is None:
            residency._thread = None  # noqa: SLF001 - as above
            residency.watch()  # a model may have come meanwhile
            return
        del residency
        wake.wait(min(seconds, longest))
        longest = _LOOK_SECONDS
        wake.clear()
        residency = owner()
        if residency is None or residency._thread is not threading.current_thread():  # noqa: SLF001 - as above
            return
        try:
            residency.unload_idle()
            residency.warm_up()
            residency.tell()
        except Exception:  # noqa: BLE001 - a thread that ended would unload nothing any more
            residency.unloads["failed"] += 1
        del residency
