"""A process of the crowd that uses one store: a writer that says what was acknowledged, or a reader that looks for it.

Started as ``python crowd_child.py ROLE NUMBER FOLDER ROUNDS``. A writer's log has a line of JSON for each call that
returned: what was stored and when that was so. A reader prints one line of JSON at the end.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from omnimemory.config import Settings
from omnimemory.memory import Memory

WORDS = ("river", "engine", "letter", "garden", "planet", "copper", "window", "thunder", "market", "signal", "bridge")
LATE_SECONDS = 2.0


def settings_in(folder: Path) -> Settings:
    """Return the settings of everybody in the crowd: each large search may go to Chroma, each batch is small."""
    values = {"store.path": folder / "store", "cache.path": folder / "cache", "search.exact_rows": 20}
    return Settings().with_values({**values, "embedding.batch_size": 64, "index.batch_size": 200})


def text_of(token: str) -> str:
    """Return a text that holds this word and no other text does, and is told from others by its meaning as well."""
    dice = random.Random(token)
    return f"{token} " + " ".join(dice.choices(WORDS, k=9)) + f" {dice.randrange(10**6)}"


class Writer:
    """Adds notes, rewrites files of its own, and lengthens a history of its own."""

    def __init__(self, number: int, folder: Path) -> None:
        self.name = f"w{number}"
        self.log = (folder / f"{self.name}.log").open("a")
        self.docs = folder / f"docs-{self.name}"
        self.docs.mkdir(exist_ok=True)
        self.history = folder / f"history-{self.name}"
        self.dice = random.Random(number)
        self.count = 0

    def token(self) -> str:
        """Return a word that nobody else has."""
        self.count += 1
        return f"tok{self.name}x{self.count}"

    def note(self, memory: Memory) -> None:
        """Add a few notes."""
        tokens = [self.token() for _ in range(self.dice.randint(1, 6))]
        ids = memory.add([text_of(token) for token in tokens])
        self.say("note", tokens, ids=ids)

    def file(self, memory: Memory) -> None:
        """Write a file, new or for the second time, and ingest it."""
        path, token = self.docs / f"{self.dice.randrange(6)}.txt", self.token()
        path.write_text(text_of(token))
        report = memory.ingest(self.docs)
        assert (report.failed, report.pending) == (0, 0), report
        self.say("file", [token], path=str(path))

    def command(self, memory: Memory) -> None:
        """Append commands to the history and ingest it."""
        tokens = [self.token() for _ in range(self.dice.randint(1, 20))]
        with self.history.open("a") as file:
            file.writelines(f"{text_of(token)}\nmake test\n" for token in tokens)
        report = memory.ingest_history(self.history, shell="bash")
        assert (report.failed, report.pending) == (0, 0), report
        self.say("command", tokens)

    def say(self, kind: str, tokens: list[str], **more: object) -> None:
        """Note that this is stored."""
        self.log.write(json.dumps({"kind": kind, "tokens": tokens, "at": time.time(), **more}) + "\n")
        self.log.flush()


def write(number: int, folder: Path, rounds: int) -> None:
    """Write so many rounds, or until a file says that it is enough."""
    writer = Writer(number, folder)
    with Memory(settings=settings_in(folder)) as memory:
        for _ in range(rounds):
            writer.dice.choice((writer.note, writer.file, writer.command))(memory)
            if (folder / "enough").exists():
                break


def new_lines(folder: Path, offsets: dict[Path, int]) -> Iterator[dict]:
    """Yield what the writers' logs say since the last time."""
    for path in folder.glob("w*.log"):
        data = path.read_bytes()[offsets.get(path, 0) :]
        whole = data[: data.rfind(b"\n") + 1]
        offsets[path] = offsets.get(path, 0) + len(whole)
        yield from map(json.loads, whole.splitlines())


def read(number: int, folder: Path) -> None:
    """Look for whatever was acknowledged, at once and again later, until a file says that all of it is."""
    dice, offsets, young, old = random.Random(-number), {}, [], []
    looks = lost = late = wrong = 0
    by: dict[str, int] = {}
    with Memory(settings=settings_in(folder)) as memory:
        if number == 0:
            memory.warm()
        while True:
            over = (folder / "written").exists()
            for line in new_lines(folder, offsets):
                if line["kind"] != "file":  # which may be written anew before anybody looks
                    young += [(token, line["kind"], line["at"]) for token in line["tokens"]]
            for token, kind, at in dice.sample(old, min(len(old), 3)) + young[-8:]:
                started, kinds = time.time(), "commands" if kind == "command" else "documents"
                looks += 1
                seen = memory.search(token, mode="keyword", kind=kinds, k=1)
                nearest = memory.search(text_of(token), mode="vector", kind=kinds, k=1, explain=True)
                by_whom = nearest.explain["kinds"][kinds]["answered_by"]
                by[by_whom] = by.get(by_whom, 0) + 1
                if not seen or token not in seen[0].text:
                    late, lost = late + 1, lost + (started - at > LATE_SECONDS)
                elif not nearest or nearest[0].score < 0.999:
                    wrong += 1
            old += young[-8:]
            del young[-8:]
            if over and (not young or looks > 3000):
                break
            time.sleep(0.01)
    sys.stdout.write(json.dumps({"looks": looks, "lost": lost, "late": late, "wrong": wrong, "by": by}))


if __name__ == "__main__":
    role, which, where, often = sys.argv[1:]
    if role == "write":
        write(int(which), Path(where), int(often))
    else:
        read(int(which), Path(where))
