"""Whatever is done to a memory, in whatever order, it holds what a few dictionaries say it should.

The model is plain Python: what lies on disk, what was told to be remembered, what was forgotten. After every step the
catalog is compared with it row by row, and some questions are asked. Processes end well, are killed at rest, or are
killed in the midst of something, which is then done again. To add a verb: a rule that does it to ``self.agent`` and
to the dictionaries.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from machine_agent import PATIENCE, Agent, vector_of

from omnimemory.forgetting.report import ForgetReport

FILES = ["a.txt", "b.txt", "c.txt", "sub/d.txt", "sub/e.txt", "sub/deep/f.txt"]
NOTE_IDS = ["one", "two", "three", None]
LONG = 5000

words = st.integers(0, 24)
texts = st.lists(words, max_size=3, unique=True) | st.just([LONG])
kinds_of_end = st.sampled_from(["close", "kill"])
delays = st.floats(0, 0.03)


def line_of(word: int) -> str:
    """Return a line that holds one word that no other line has."""
    return f"word{word:05} tells of subject {word % 5}"


def content_of(numbers: list[int]) -> str:
    """Return the content of a file: up to three lines, or so many that they make several chunks."""
    many = range(LONG, LONG + 80) if numbers == [LONG] else numbers
    return "\n".join(line_of(number) for number in many)


class MemoryMachine(RuleBasedStateMachine):
    """A store, the processes that use it, and what it should hold."""

    indexed = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.docs, self.history_file = self.folder / "docs", self.folder / "history"
        (self.docs / "sub" / "deep").mkdir(parents=True)
        self.agent = Agent(self.folder, indexed=self.indexed)
        self.other: Agent | None = None
        self.dice = random.Random(0)
        self.on_disk: dict[str, str] = {}
        self.known: dict[str, str] = {}  # what the last ingest read, by path
        self.gone: dict[str, set[str]] = {}  # lines of a path that were forgotten
        self.notes: dict[str, tuple[str, dict]] = {}
        self.entries: list[tuple[int, str]] = []
        self.read_before = b""
        self.events: Counter[tuple[int, str]] = Counter()
        self.forgotten: set[str] = set()
        self.clock = 1_700_000_000

    def teardown(self) -> None:
        try:
            if self.other is not None:
                self.other.close()
            assert self.agent.do("sick") == []
            self.agent.close()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- files

    @rule(name=st.sampled_from(FILES), numbers=texts)
    def write_file(self, name: str, numbers: list[int]) -> None:
        (self.docs / name).write_text(content_of(numbers))
        self.on_disk[name] = content_of(numbers)

    @precondition(lambda self: self.on_disk)
    @rule(data=st.data())
    def delete_file(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.on_disk)))
        (self.docs / name).unlink()
        del self.on_disk[name]

    @precondition(lambda self: self.on_disk)
    @rule(data=st.data(), to=st.sampled_from(FILES))
    def rename_file(self, data: st.DataObject, to: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.on_disk)))
        (self.docs / name).rename(self.docs / to)
        self.on_disk[to] = self.on_disk.pop(name)

    @rule()
    def ingest(self) -> None:
        report = self.someone().do("ingest", self.docs)
        assert (report.failed, report.pending, report.degraded) == (0, 0, None), report
        self.now_ingested()

    def now_ingested(self) -> None:
        kept = {} if self.on_disk else self.known  # a folder that is empty may be unmounted: nothing is taken for gone
        self.known = kept | {name: text for name, text in self.on_disk.items() if text}

    @rule()
    def ingest_dry(self) -> None:
        self.someone().do("ingest", self.docs, dry_run=True)

    # -- notes

    @rule(number=words, name=st.sampled_from(NOTE_IDS), topic=st.sampled_from([None, "x", "y"]))
    def add_note(self, number: int, name: str | None, topic: str | None) -> None:
        metadata = {} if topic is None else {"topic": topic}
        (got,) = self.someone().do("add", [line_of(number)], ids=name and [name], metadatas=[metadata])
        assert name in (None, got)
        self.notes[got] = (line_of(number), metadata)

    # -- history

    @rule(numbers=st.lists(words, min_size=1, max_size=4), pause=st.integers(0, 2))
    def type_commands(self, numbers: list[int], pause: int) -> None:
        self.clock += pause
        self.entries += [(self.clock, f"run {line_of(number)}") for number in numbers]
        self.write_history()

    @precondition(lambda self: len(self.entries) > 1)
    @rule(data=st.data())
    def trim_history(self, data: st.DataObject) -> None:
        del self.entries[: data.draw(st.integers(1, len(self.entries) - 1))]
        self.write_history()

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), number=words)
    def edit_history(self, data: st.DataObject, number: int) -> None:
        place = data.draw(st.integers(0, len(self.entries) - 1))
        self.entries[place] = (self.entries[place][0], f"run {line_of(number)}")
        self.write_history()

    def write_history(self) -> None:
        self.history_file.write_text("".join(f"#{at}\n{command}\n" for at, command in self.entries))

    @precondition(lambda self: self.entries)
    @rule()
    def ingest_history(self) -> None:
        report = self.someone().do("ingest_history", self.history_file, shell="bash")
        assert (report.failed, report.pending, report.degraded) == (0, 0, None), report
        self.now_read()

    def now_read(self) -> None:
        data = self.history_file.read_bytes()
        if data.startswith(self.read_before):
            new = Counter(self.entries[self.read_before.count(b"\n") // 2 :])
            for event, count in new.items():
                self.events[event] += count
        else:
            for event, count in Counter(self.entries).items():
                self.events[event] = max(self.events[event], count)
        self.read_before = data
        self.events = Counter({event: count for event, count in self.events.items() if event[1] not in self.forgotten})

    # -- forgetting

    @rule(number=words)
    def forget(self, number: int) -> None:
        word = line_of(number).split()[0]
        self.purged(self.someone(), self.someone().do("forget", pattern=word))
        for name in [name for name in self.known if self.visible(name) and word in self.known[name]]:
            self.gone.setdefault(name, set()).add(line_of(number))
        self.notes = {name: note for name, note in self.notes.items() if word not in note[0]}
        commands = {event[1] for event in self.events if word in event[1]}
        self.forgotten |= commands
        self.events = Counter({event: count for event, count in self.events.items() if event[1] not in commands})

    def purged(self, agent: Agent, report: ForgetReport) -> None:
        """Do as the report says while somebody uses what is to be purged: run it again."""
        deadline = time.monotonic() + PATIENCE
        while any(one.busy for one in report.unpurged) and time.monotonic() < deadline:
            report = agent.do("forget", finish=True)
        assert not report.unpurged, report

    # -- processes

    def someone(self) -> Agent:
        return self.dice.choice([self.agent, self.other]) if self.other else self.agent

    @rule(end=kinds_of_end)
    def restart(self, end: str) -> None:
        getattr(self.agent, end)()
        self.agent = Agent(self.folder, indexed=self.indexed)

    @rule(end=kinds_of_end)
    def another_process_comes_or_goes(self, end: str) -> None:
        if self.other is None:
            self.other = Agent(self.folder, indexed=self.indexed)
        else:
            getattr(self.other, end)()
            self.other = None

    @rule(delay=delays)
    def killed_while_ingesting(self, delay: float) -> None:
        self.killed_while(delay, "ingest", self.docs)
        self.ingest()

    @precondition(lambda self: self.entries)
    @rule(delay=delays)
    def killed_while_reading_history(self, delay: float) -> None:
        self.killed_while(delay, "ingest_history", self.history_file, shell="bash")
        self.ingest_history()

    @rule(delay=delays, number=words)
    def killed_while_adding(self, delay: float, number: int) -> None:
        self.killed_while(delay, "add", [line_of(number)], ids=["one"])
        self.agent.do("add", [line_of(number)], ids=["one"])
        self.notes["one"] = (line_of(number), {})

    @rule(delay=delays, number=words)
    def killed_while_forgetting(self, delay: float, number: int) -> None:
        self.killed_while(delay, "forget", pattern=line_of(number).split()[0])
        self.purged(self.agent, self.agent.do("forget", finish=True))
        self.forget(number)

    def killed_while(self, delay: float, name: str, *arguments: object, **named: object) -> None:
        self.agent.begin(name, *arguments, **named)
        time.sleep(delay)  # how far it gets is up to chance
        self.agent.kill()
        self.agent = Agent(self.folder, indexed=self.indexed)

    # -- upkeep

    @rule()
    def rebuild(self) -> None:
        if self.other is None:
            self.agent.do("rebuild")

    @rule()
    def lose_the_cache(self) -> None:
        self.someone().do("clear_cache")

    @rule(verb=st.sampled_from(["repair", "maintain"]))
    def mend(self, verb: str) -> None:
        self.someone().do(verb)

    # -- what must be true

    def visible(self, name: str) -> bool:
        return not self.gone.get(name, set()) & set(self.known[name].splitlines())

    @invariant()
    def all_is_well(self) -> None:
        found = self.someone().do("everything")
        self.it_holds_what_it_should(found)
        self.it_finds_what_it_should(found)
        if self.indexed and self.dice.random() < 0.3:
            assert self.agent.do("index_state") in (None, [])

    def it_holds_what_it_should(self, found: dict) -> None:
        notes = {
            public: (text, json.loads(extra))
            for public, _, kind, _, _, text, extra in found["chunks"]
            if kind == "notes"
        }
        assert notes == self.notes
        by_file: dict[str, list[tuple[int, int, str]]] = {}
        for _, uri, kind, start, end, text, _ in found["chunks"]:
            if kind == "file":
                by_file.setdefault(str(Path(uri).relative_to(self.docs.resolve())), []).append((start, end, text))
        assert by_file.keys() == {name for name in self.known if self.visible(name)}
        for name, chunks in by_file.items():
            content = self.known[name]
            assert all(content[start:end] == text for start, end, text in chunks)
            assert all(any(line in text for _, _, text in chunks) for line in content.splitlines())
        assert Counter((at, command) for at, command in found["events"]) == self.events
        assert sorted(found["commands"]) == sorted({command for _, command in self.events})
        assert found["pending"] == 0
        assert len(found["vectors"]) == found["items"]
        assert all(np.array_equal(vector, vector_of(text)) for text, vector in found["vectors"])

    def it_finds_what_it_should(self, stored: dict) -> None:
        documents = [text for *_, text, _ in stored["chunks"]]
        asked = line_of(self.dice.randrange(25))
        for kind, texts in (("documents", documents), ("commands", stored["commands"])):
            best = sorted((float(vector_of(text) @ vector_of(asked)) for text in texts), reverse=True)
            answered_by, scores = self.someone().do("nearest", asked, kind)
            assert np.allclose(scores, best[:5], atol=1e-5), answered_by  # Chroma too, also where texts are the same
            word = asked.split()[0]
            found = self.someone().do("search", word, kind=kind, mode="keyword", k=50)
            assert sorted(text for _, text, _, _ in found) == sorted(text for text in texts if word in text)


class IndexedMachine(MemoryMachine):
    """The same with the Chroma index open."""

    indexed = True


COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}


@pytest.mark.parametrize(
    ("machine", "examples", "steps"),
    [
        pytest.param(MemoryMachine, 4, 15, id="small"),
        pytest.param(MemoryMachine, 150, 50, id="large", marks=[pytest.mark.soak, pytest.mark.timeout(7000)]),
        pytest.param(IndexedMachine, 40, 40, id="indexed", marks=[pytest.mark.soak, pytest.mark.timeout(7000)]),
    ],
)
def test_a_memory_holds_what_the_model_says_after_every_step(machine, examples, steps):
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=steps, **COMMON))
