"""MiniLM computed by a real OpenAI-compatible server, llama.cpp's, against the vectors computed here.

Runs when ``OMNIMEMORY_TEST_LLAMA_SERVER`` names the program ``llama-server`` and ``OMNIMEMORY_TEST_LLAMA_MODEL`` the
model as float32 GGUF, which ``convert_hf_to_gguf.py --outtype f32`` of llama.cpp makes of a pulled MiniLM's folder.
"""

import os
import shlex
import signal
import socket
import subprocess
import time

import httpx
import numpy as np
import pytest

from omnimemory.config import Settings
from omnimemory.embedders.onnx import OnnxEmbedder
from omnimemory.embedders.openai import OpenAIEmbedder
from omnimemory.memory import Memory

TEXTS = [
    "list the files of a folder, newest first",
    "git rebase --interactive HEAD~3",
    "tar -xzf archive.tar.gz -C /srv/data",
    "Ein Umlaut: Käse, Öl und Brot",
    "日本語のテキスト",
    "a",
    " ".join(f"word{n}" for n in range(60)),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    program, model = (os.environ.get(f"OMNIMEMORY_TEST_LLAMA_{name}") for name in ("SERVER", "MODEL"))
    if not program or not model:
        pytest.skip(
            "needs OMNIMEMORY_TEST_LLAMA_SERVER and OMNIMEMORY_TEST_LLAMA_MODEL: llama-server and MiniLM as GGUF"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"--host 127.0.0.1 --port {port} --embeddings --pooling mean -c 512 -b 512 -ub 512 -t 2 -np 1 --no-webui"
    log = tmp_path_factory.mktemp("llama") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([program, "-m", model, *shlex.split(options)], stdout=output, stderr=output)
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def wait_until_ready(address, process, log):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{address}/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail(f"llama-server did not start: {log.read_text()[-2000:]}")


def test_its_vectors_are_those_computed_here(server, minilm):
    embedder = OpenAIEmbedder("minilm", url=server)
    try:
        theirs = embedder.embed(TEXTS, "document")
    finally:
        embedder.close()
    ours = OnnxEmbedder(minilm.folder, precision="float32").embed(TEXTS, "document")
    cosines = (theirs * ours).sum(1)
    assert cosines.min() >= 0.999


def test_a_memory_over_it_ingests_and_finds(server, tmp_path):
    (tmp_path / "docs").mkdir()
    for number, text in enumerate(TEXTS[:3]):
        (tmp_path / "docs" / f"{number}.txt").write_text(text)
    values = {
        "store.path": tmp_path / "store",
        "cache.path": tmp_path / "cache",
        "embedding.model": "openai:minilm",
        "servers.openai_url": server,
    }
    with Memory(settings=Settings().with_values(values)) as memory:
        report = memory.ingest(tmp_path / "docs")
        assert (report.added, report.failed, report.pending) == (3, 0, 0)
        assert memory.search("unpack a compressed archive", mode="vector", k=1)[0].text == TEXTS[2]


def test_a_text_longer_than_it_reads_is_asked_for_in_parts(server):
    embedder = OpenAIEmbedder("minilm", url=server)
    try:
        long, beside = embedder.embed(["unpack the archive " * 1000, TEXTS[0]], "document")
        short, alone = embedder.embed(["unpack the archive", TEXTS[0]], "document")
    finally:
        embedder.close()
    assert abs(np.linalg.norm(long) - 1) < 1e-5
    assert long @ short > 0.5
    assert beside @ alone > 0.9999
