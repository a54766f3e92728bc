"""A move to another model that is killed: the store is searched as before, and the next run goes on to the same end."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest
from fault_cases import tell
from reembed_cases import fill, fresh, held, notes, spaces
from store_cases import ROOT

from omnimemory.embedders.static import StaticEmbedder
from omnimemory.memory import Memory


def start(settings, *arguments, faults="", **values):
    """Start ``omnimemory reembed`` in a process of its own."""
    given = {
        "OMNIMEMORY_STORE": settings.store.path,
        "OMNIMEMORY_CACHE_PATH": settings.cache.path,
        "OMNIMEMORY_INDEX_ENABLED": "no",
        "OMNIMEMORY_EMBEDDING_BATCH_SIZE": 32,
        "OMNIMEMORY_FAULTS": faults,
        **values,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "omnimemory", "reembed", *arguments, "--json"],
        env={**os.environ, **{name: str(value) for name, value in given.items()}},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(process, seconds=60):
    """Return the exit code of a process, and what it printed."""
    with process:
        printed, complaint = process.communicate(timeout=seconds)
    assert process.returncode <= 0, complaint
    return process.returncode, printed


def test_a_move_killed_at_each_of_its_steps_loses_nothing_and_ends_as_a_fresh_store(settings, tmp_path):
    with Memory(settings=settings, model="static") as memory:
        fill(memory, tmp_path, 300)
        before = held(memory)
    kills = ("reembed.fill:kill@2", "commit.after:kill@6", "reembed.switch:kill")
    for faults in kills:
        assert outcome(start(settings, "--dim", "128", faults=faults))[0] == -signal.SIGKILL
        with Memory(settings=settings) as memory:
            assert held(memory) == before
            assert memory.search(notes(6)[5], k=1, mode="vector")[0].text == notes(6)[5]
            assert memory.embeddings.dim == 256
    report = json.loads(outcome(start(settings, "--dim", "128"))[1])
    assert (report["state"], report["resumed"], report["embedded"]) == ("moved", 305, 0)
    assert outcome(start(settings, "--confirm", "--yes", faults="reembed.drop:kill"))[0] == -signal.SIGKILL
    with Memory(settings=settings) as memory:
        assert held(memory) == fresh(settings, tmp_path, StaticEmbedder(128), lambda m, f: fill(m, f, 300))
        memory.reembed(confirm=True)
        assert spaces(memory) == {"documents": 300, "commands": 5}


def test_a_move_killed_right_after_the_switch_is_of_the_new_model(settings, tmp_path):
    with Memory(settings=settings, model="static") as memory:
        fill(memory, tmp_path, 40)
    child = start(settings, "--dim", "128", faults="drainer.start:kill", OMNIMEMORY_INDEX_ENABLED="yes")
    assert outcome(child)[0] == -signal.SIGKILL
    with Memory(settings=settings) as memory:  # the catalog's main file may still name the old one
        assert memory.embeddings.dim == 128
        assert memory.search(notes(6)[5], k=1, mode="vector")[0].text == notes(6)[5]


CASES = [
    pytest.param("static:wordllama-128", 1_500, 3, id="small"),
    pytest.param("minilm", 20_000, 20, id="minilm", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
]


@pytest.mark.parametrize(("model", "count", "kills"), CASES)
def test_a_move_killed_at_random_moments_is_searched_all_the_while_and_ends_as_a_fresh_store(
    settings, tmp_path, request, capsys, model, count, kills
):
    words, tools = random.Random(4), ("git", "docker", "kubectl", "tar", "ssh", "rsync", "curl", "find", "ffmpeg")
    commands = [
        f"{words.choice(tools)} --{words.choice('abcdefgh')}{n} target-{n * 7919 % 20011}" for n in range(count)
    ]
    own = {"OMNIMEMORY_EMBEDDING_BATCH_SIZE": 64}
    if model == "minilm":
        own["OMNIMEMORY_MODELS_PATH"] = request.getfixturevalue("minilm").folder.parent
        settings = settings.with_values({"models.path": own["OMNIMEMORY_MODELS_PATH"]})
    _read(settings, commands, tmp_path)
    with Memory(settings=settings) as memory:
        before = held(memory)
    moments, dice = [], random.Random(11)
    for number in range(kills):
        if model == "minilm":
            child = start(settings, "--model", model, **own)
            _wait_for(settings, child, number * count // kills)
            time.sleep(dice.uniform(0, 0.4))  # any moment will do: nothing is waited for
            child.kill()
        else:  # too fast for that
            child = start(settings, "--model", model, faults=f"*:kill@{dice.randint(5, 60)}", **own)
        assert outcome(child)[0] == -signal.SIGKILL, "it ended before it was killed"
        moments.append(_moved(settings))
        with Memory(settings=settings) as memory:
            assert held(memory) == before
            asked = dice.choice(commands)
            assert memory.search(asked, k=1, mode="vector")[0].text == asked
    report = json.loads(outcome(start(settings, "--model", model, **own), 1800)[1])
    assert (report["state"], report["resumed"], report["texts"]) == ("moved", moments[-1], count)
    with Memory(settings=settings) as memory:
        found = held(memory)["commands"]
    fresh_one = settings.with_values({"store.path": tmp_path / "fresh", "cache.path": tmp_path / "fresh-cache"})
    _read(fresh_one, commands, tmp_path, model)
    with Memory(settings=fresh_one) as memory:
        wanted = held(memory)["commands"]
    assert found.keys() == wanted.keys()
    left, right = (np.stack([np.frombuffer(side[text], dtype="<f4") for text in wanted]) for side in (found, wanted))
    np.testing.assert_allclose(left, right, rtol=0, atol=2e-6)
    tell(capsys, f"{count:,} commands, killed {kills} times with {moments} moved: equal to a fresh store")


def _read(settings, commands, folder, model="static"):
    history = folder / "history"
    history.write_text("".join(f": {1_600_000_000 + n}:0;{text}\n" for n, text in enumerate(commands)))
    with Memory(settings=settings, model=model) as memory:
        memory.ingest_history(history, shell="zsh")


def _moved(settings):
    with closing(sqlite3.connect(settings.store.path / "catalog.sqlite3", timeout=30)) as sql:
        return sql.execute(
            "SELECT count(*) FROM vectors v JOIN collections c ON c.id = v.collection_id WHERE c.name = 'commands:next'"
        ).fetchone()[0]


def _wait_for(settings, child, count):
    while _moved(settings) < count:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.02)
