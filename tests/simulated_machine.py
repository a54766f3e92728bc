"""A machine with a clock of its own: processes, models and batches run on it, and the real decisions govern them.

Nothing of the scheduler is imitated: each process asks real :class:`Admissions`. What is simulated is the world: memory
that other programs take, models that take time to load and fail, batches that end badly, callers that give up, and
processes that are killed. The laws are checked at every step, see ``laws.py``.
"""

import heapq
import itertools
import random
from contextlib import contextmanager
from dataclasses import dataclass, field

from omnimemory.scheduler.admissions import Admissions, Ticket
from omnimemory.scheduler.footprint import Request
from omnimemory.scheduler.ledger import Row, Shared
from omnimemory.scheduler.probe import UNKNOWN, Available
from omnimemory.scheduler.profiles import Profile
from omnimemory.scheduler.residents import Entry, Residents, State
from omnimemory.scheduler.rules import Rules

TICK = 1.0
STARVE = 10.0
PROFILE = Profile("simulated", 0, 0.05, 1.0, None, 20.0, STARVE, 0.05, 0.12)


@dataclass
class World:
    """What is true, whatever the scheduler believes: bytes of memory and who has what of it."""

    total: int
    taken: int = 0
    blind: bool = False
    processes: list = field(default_factory=list)

    def available(self):
        held = sum(process.held() for process in self.processes)
        return max(0, self.total - self.taken - held)

    def probe(self):
        if self.blind:
            return Available(0, UNKNOWN, 0)
        return Available(self.available(), "simulated", self.total)


class Promises:
    """The file of promises of one process, where the file is a dictionary of the world's."""

    problem = ""

    def __init__(self, file, pid, world):
        self.file, self.pid, self.world = file, pid, world

    @contextmanager
    def locked(self):
        alive = {process.pid for process in self.world.processes}
        dead = [pid for pid in self.file if pid not in alive]
        for pid in dead:
            del self.file[pid]
        yield Shared(self, tuple(row for pid, row in self.file.items() if pid != self.pid), len(dead))

    def put(self, reserved, wanted, since):
        if reserved or wanted:
            self.file[self.pid] = Row(self.pid, 0, 0, 0, reserved, wanted, since)
        else:
            self.file.pop(self.pid, None)


@dataclass
class Job:
    """One request: what is asked, what happens to it, and how it ended."""

    process: object
    ticket: Ticket
    seconds: float
    fails: bool
    name: str
    outcome: str = ""
    ended: float = 0.0
    unloading: int = 0


class Process:
    """One process of the machine with its own models."""

    def __init__(self, machine, pid, models, rules):
        self.machine, self.pid = machine, pid
        self.there = dict.fromkeys(models, False)
        self.jobs = {}
        self.models = models
        self.residents = Residents()
        self.asking = Admissions(rules, machine.world.probe, Promises(machine.file, pid, machine.world), self.residents)
        for name, model in models.items():
            self.residents.know(
                Entry(
                    name,
                    is_loaded=lambda name=name: self.there[name],
                    footprint=model.bytes,
                    keep_alive=model.keep_alive,
                    pinned=model.pinned,
                    foreign=model.foreign,
                    priority=model.priority,
                )
            )

    def held(self):
        models = sum(self.models[name].bytes for name, there in self.there.items() if there)
        return models + sum(job.using for job in self.jobs.values())


@dataclass
class Model:
    bytes: int
    load_seconds: float
    keep_alive: float | None = 20.0
    pinned: bool = False
    foreign: bool = False
    priority: int = 0


@dataclass
class Running(Job):
    using: int = 0


class Machine:
    """Runs events in the order of their time; ``laws`` sees everything that happens."""

    def __init__(self, seed, laws, rules=None):
        self.dice = random.Random(seed)
        self.laws = laws
        self.now = 0.0
        self.world = World(total=1000)
        self.file = {}
        self.events = []
        self.order = itertools.count()
        self.jobs = []
        self.pids = itertools.count(100)
        self.rules = rules or Rules(PROFILE, max_loaded=self.dice.choice([None, None, 1, 2]))
        self.models = {name: self.some_model(name) for name in "abcd"}
        for _ in range(self.dice.choice([1, 1, 2, 3])):
            self.start()

    def some_model(self, name):
        dice = self.dice
        return Model(
            dice.randint(20, 450),
            dice.choice([0.1, 1.0, 3.0]),
            dice.choice([None, 0.0, 5.0, 20.0]),
            pinned=name == "c" and dice.random() < 0.3,
            foreign=name == "d" and dice.random() < 0.3,
            priority=dice.choice([0, 0, 1]),
        )

    def start(self):
        process = Process(self, next(self.pids), self.models, self.rules)
        self.world.processes.append(process)
        return process

    def at(self, delay, act, *args):
        heapq.heappush(self.events, (self.now + delay, next(self.order), act, args))

    def run(self, until=300.0):
        while self.events:
            time, _, act, args = heapq.heappop(self.events)
            if time > until:
                break
            self.now = max(self.now, time)
            act(*args)
        self.laws.at_the_end(self)

    # -- requests

    def ask(self, process, model, items, per_item, patience, seconds, *, fails=False, may_evict=True):
        base = 0 if process.there[model] else self.models[model].bytes
        ticket = Ticket(Request(model, items, base, per_item), self.now, patience, may_evict)
        job = Running(process, ticket, seconds, fails, f"{process.pid}-{len(self.jobs)}")
        self.jobs.append(job)
        self.step(job)
        return job

    def step(self, job):
        process = job.process
        if job.outcome or process not in self.world.processes:
            return
        before = self.laws.before(self, job)
        decision = process.asking.ask(job.ticket, self.now, job.name)
        self.laws.decided(self, job, decision, before)
        if decision.runs:
            self.begin(job, decision)
        elif decision.action == "wait":
            self.at(TICK, self.step, job)
        elif decision.action == "refuse":
            self.end(job, "refused")
        else:
            self.evict(job, decision)

    def begin(self, job, decision):
        job.outcome = "running"
        job.process.jobs[job.name] = job
        entry = job.process.residents.get(decision.request.model)
        if decision.request.base and entry.state is State.LOADING:
            self.laws.load_begins(self, job.process)
            epoch = entry.epoch
            self.at(self.models[entry.name].load_seconds, self.load_ends, job, entry.name, epoch)
            return
        self.batch(job, decision.need)

    def load_ends(self, job, name, epoch):
        process = job.process
        if process not in self.world.processes:
            return
        if job.fails and self.dice.random() < 0.5:
            self.release(job, "failed to load")
            return
        process.there[name] = True
        self.laws.stale(self, process, name, epoch - 1)
        self.batch(job, 0)

    def batch(self, job, using):
        job.using = int(using * self.dice.choice([0.0, 0.5, 1.0]))
        self.at(job.seconds, self.release, job, "failed" if job.fails else "done")

    def release(self, job, outcome):
        if job.process not in self.world.processes:
            return
        job.process.jobs.pop(job.name, None)
        job.using = 0
        job.process.asking.release(job.name, self.now, ended_well=outcome == "done")
        self.end(job, outcome)
        for other in [one for one in self.jobs if one.process is job.process and not one.outcome and not one.unloading]:
            self.step(other)

    def end(self, job, outcome):
        job.outcome, job.ended = outcome, self.now

    # -- unloading

    def evict(self, job, decision):
        begun = 0
        for victim in decision.victims:
            begun += self.unload(job.process, victim.model, job)
        if not begun:
            self.at(TICK, self.step, job)

    def unload(self, process, name, job=None):
        self.laws.unload_begins(self, process, name)
        epoch = process.residents.begin_unload(name)
        if epoch is None:
            return 0
        if job is not None:
            job.unloading += 1
        self.at(self.dice.choice([0.0, 0.2, 1.0]), self.unload_ends, process, name, epoch, job)
        return 1

    def unload_ends(self, process, name, epoch, job):
        if process not in self.world.processes:
            return
        self.laws.unload_ends(self, process, name)
        process.there[name] = False
        self.laws.stale(self, process, name, epoch - 1)
        process.residents.unloaded(name, epoch, self.now)
        if job is not None:
            job.unloading -= 1
            if not job.unloading:
                self.step(job)

    def tidy(self, process):
        """Do what the scheduler's own thread does: unload what is idle for too long, or what has to go."""
        if process not in self.world.processes:
            return
        for name in process.residents.expired(self.now):
            self.unload(process, name)
        name = process.asking.reclaim(self.now)
        if name:
            self.unload(process, name)

    # -- what else happens

    def cancel(self, job):
        if not job.outcome and not job.unloading and job.process in self.world.processes:
            job.process.asking.abandon(job.ticket, self.now)
            self.end(job, "cancelled")

    def kill(self, process):
        if process not in self.world.processes:
            return
        self.world.processes.remove(process)
        for job in self.jobs:
            if job.process is process and job.outcome in ("", "running"):
                self.end(job, "killed")
        self.start()

    def others_take(self, size):
        self.world.taken = size
