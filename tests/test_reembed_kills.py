"""A move to another model that is killed: the store is searched as before, and the next run goes on to the same end."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from reembed_cases import fill, fresh, held, notes, spaces
from store_cases import ROOT

from omnimemory.embedders.onnx import OnnxEmbedder
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


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_static_to_minilm_of_20_000_commands_killed_at_20_random_moments(settings, minilm, tmp_path):
    words = random.Random(4)
    tools = ("git", "docker", "kubectl", "tar", "ssh", "rsync", "systemctl", "curl", "find", "ffmpeg")
    commands = [
        f"{words.choice(tools)} --{words.choice('abcdefgh')}{n} target-{n * 7919 % 20011}" for n in range(20_000)
    ]

    def read(memory, folder):
        history = folder / "history"
        history.write_text("".join(f": {1_600_000_000 + n}:0;{text}\n" for n, text in enumerate(commands)))
        memory.ingest_history(history, shell="zsh")

    models = {"models.path": minilm.folder.parent}
    chosen = settings.with_values(models)
    with Memory(settings=chosen, model="static") as memory:
        read(memory, tmp_path)
        before = held(memory)
    killed, dice = 0, random.Random(11)
    own = {"OMNIMEMORY_MODELS_PATH": minilm.folder.parent, "OMNIMEMORY_EMBEDDING_BATCH_SIZE": 512}
    while killed < 20:
        child = start(chosen, "--model", "minilm", **own)
        time.sleep(dice.uniform(0.5, 8.0))  # any moment will do: nothing is waited for
        child.kill()
        killed += outcome(child)[0] == -signal.SIGKILL
        with Memory(settings=chosen) as memory:
            if memory.embeddings.dim == 384:
                break  # it was faster than all the kills
            assert held(memory) == before
            assert memory.search(commands[77], k=1, mode="vector")[0].text == commands[77]
    assert killed >= 1
    _, report = outcome(start(chosen, "--model", "minilm", **own), 1800)
    assert json.loads(report)["state"] in ("moved", "unchanged")
    with Memory(settings=chosen) as memory:
        found = held(memory)
    wanted = fresh(chosen, tmp_path, OnnxEmbedder.of_installed(minilm), read)
    assert found.keys() == wanted.keys()
    assert found["commands"].keys() == wanted["commands"].keys()
    pairs = [(vector, wanted["commands"][text]) for text, vector in found["commands"].items()]
    left, right = (np.stack([np.frombuffer(pair[side], dtype="<f4") for pair in pairs]) for side in (0, 1))
    np.testing.assert_allclose(left, right, rtol=0, atol=2e-6)
