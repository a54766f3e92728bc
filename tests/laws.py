"""The laws of scheduling, I1 to I20, as they are checked on the simulated machine at every step.

Each is written from the outside: from what is true in the simulated world, not from what the scheduler computes.
"""

import json
from dataclasses import replace

from simulated_machine import PROFILE, STARVE, TICK

from omnimemory.scheduler.placing import replay
from omnimemory.scheduler.probe import UNKNOWN
from omnimemory.scheduler.residents import State
from omnimemory.scheduler.victims import least_residency


class BrokenLawError(AssertionError):
    """A law did not hold."""


def law(number, holds, *told):
    if not holds:
        raise BrokenLawError(f"I{number} is broken", *told)


class Laws:
    """Checks the laws, and counts what was seen."""

    def __init__(self):
        self.decisions = 0
        self.granted = 0
        self.evicted = 0
        self.timed_out = 0
        self.too_big = 0
        self.drained = 0
        self.purged = 0

    def before(self, machine, job):
        """Return what is true before a request is decided."""
        reserved = sum(process.asking.promised for process in machine.world.processes)
        entry = job.process.residents.get(job.ticket.request.model)
        return reserved, machine.world.available(), entry.state, job.process.residents.loading

    def decided(self, machine, job, decision, before):
        self.decisions += 1
        reserved, available, state, loading = before
        request = decision.request
        law(16, replay(decision) == replace(decision, id=""), "the record says something else")
        if self.decisions % 50 == 0:
            law(16, json.loads(json.dumps(decision.to_dict()))["action"] == decision.action)
        law(20, decision.available.source != UNKNOWN or not decision.need or not decision.runs, decision)
        free = available - PROFILE.reserve(machine.world.total) - reserved
        if decision.runs:
            self.granted += 1
            law(1, decision.need <= max(0, free), "promised more than there is", decision, free)
            law(15, 1 <= decision.items <= request.items)
            law(2, state in (State.READY, State.ABSENT, State.LOADING, State.FAILED), state)
            law(8, not request.base or not loading or loading == request.model, "two loads at once")
            law(8, not (request.base and state is State.LOADING), "the same model is loaded twice")
        self.check_size(machine, decision, job)
        waited = machine.now - job.ticket.asked
        law(4, decision.action != "wait" or waited < job.ticket.patience, "it waits beyond its deadline")
        if decision.action == "evict":
            self.check_victims(machine, job, decision, free)
        self.check_flow(decision, state, free)
        self.drained += bool(decision.drain)
        self.purged = max(self.purged, job.process.asking.purged)

    def check_size(self, machine, decision, job):
        largest = decision.limits.capacity(decision.available)
        fits = decision.available.source == UNKNOWN or decision.limits.need(decision.request, 1) <= (
            machine.world.total - decision.limits.reserve
        )
        if not fits:
            self.too_big += 1
            law(5, decision.action == "refuse", "it can never fit", largest)
            law(5, decision.turn.waited == 0 or decision.request.base != job.ticket.request.base, "and it had to wait")
        if decision.action == "refuse" and fits and decision.turn.patience:
            self.timed_out += 1

    def check_victims(self, machine, job, decision, free):
        self.evicted += 1
        residents = job.process.residents
        sizes = [victim.bytes for victim in decision.victims]
        free -= decision.limits.held
        others = [one for one in residents if one.here and not one.foreign and one.name != decision.request.model]
        most = decision.limits.max_loaded

        def enough(gone):
            room = free + sum(gone) >= decision.need
            return room and (not decision.request.base or most is None or len(others) - len(gone) + 1 <= most)

        law(3, enough(sizes), "what goes is not enough", decision.victims, free, decision.need)
        for place in range(len(sizes)):
            law(3, not enough(sizes[:place] + sizes[place + 1 :]), "more goes than has to", decision.victims)
        for victim in decision.victims:
            entry = residents.get(victim.model)
            law(2, entry.leases == 0, "a model in use goes", victim)
            law(13, not entry.pinned and not entry.foreign, "a pinned or foreign model goes", victim)
            view = next(one for one in residents.view() if one.name == victim.model)
            over = view.expires is not None and view.expires <= machine.now
            young = machine.now - entry.since < least_residency(view)
            law(12, over or not young or decision.turn.waited >= STARVE, "it has only just been loaded", victim)
            law(13, decision.turn.may_evict or over, "only what is kept no longer may go")

    def check_flow(self, decision, state, free):
        request, limits = decision.request, decision.limits
        ready = state is State.READY and not request.base and decision.available.source != UNKNOWN
        room = free - limits.held
        if ready and limits.need(request, 1) <= room:
            law(6, decision.runs, "a model that is ready has to wait though there is room", decision.reason)
        if decision.runs and decision.items < request.items:
            # Halving stops at the first size that fits.
            doubled = min(size for size in halves(request.items) if size > decision.items)
            law(6, limits.need(request, doubled) > room, "it was made smaller than it had to be")

    def load_begins(self, machine, process):
        law(8, sum(1 for one in process.residents if one.state is State.LOADING) <= 1, "two loads at once")

    def unload_begins(self, machine, process, name):
        law(13, not machine.models[name].pinned and not machine.models[name].foreign, name)

    def unload_ends(self, machine, process, name):
        entry = process.residents.get(name)
        law(10, entry.state is State.UNLOADING, "it came back while it was being unloaded", name)
        law(2, entry.leases == 0, "it is in use while it goes", name)

    def stale(self, machine, process, name, epoch):
        entry = process.residents.get(name)
        before = (entry.state, entry.epoch, entry.bytes)
        changed = process.residents.loaded(name, epoch, machine.now, 1, 1.0)
        changed = process.residents.unloaded(name, epoch, machine.now) or changed
        changed = process.residents.failed(name, epoch, machine.now) or changed
        law(9, not changed and (entry.state, entry.epoch, entry.bytes) == before, "old news changed something", name)

    def at_the_end(self, machine):
        for job in machine.jobs:
            law(4, job.outcome not in ("", "running"), "it never ended", job.ticket)
            if job.outcome in ("refused", "cancelled"):
                late = job.ended - job.ticket.asked - job.ticket.patience
                law(4, late <= 2 * TICK + 1.0, "it ended too late", late)  # unloading takes up to a second
        for process in machine.world.processes:
            law(7, process.asking.promised == 0, "something was not given back")
            law(7, process.asking.leases == 0 and process.asking.waiting == 0)
            law(7, all(one.leases == 0 for one in process.residents))
            with process.asking.promises.locked() as shared:
                law(7, not shared.rows, "the file still says that something is promised")


def halves(items):
    found = [items]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found
