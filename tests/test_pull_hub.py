"""Pulling from Hugging Face through its own client, from a hub of our own over real HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools.tiny_encoders import write_tiny_encoder

ROOT = Path(__file__).resolve().parents[1]
COMMIT = "c" * 40
LARGE = 24 << 20


class Hub:
    """Answers for the files of one repository.

    ``cut`` breaks the next download after so many bytes, ``refuses`` has the status and the code for some names.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cut: int | None = None
        self.refuses: dict[str, tuple[int, str]] = {}
        self.ranges: list[str] = []
        self.paths: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_HEAD(self):
                self._answer(body=False)

            def do_GET(self):
                self._answer(body=True)

            def _answer(self, *, body):
                hub.answer(self, body=body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        self.paths.append(request.path)
        name = request.path.partition("/resolve/")[2].partition("/")[2]
        file = self.folder / name
        if name in self.refuses:
            status, code = self.refuses[name]
            if not status:
                request.close_connection = True
                request.connection.close()
                return
            request.send_response(status)
            request.send_header("X-Error-Code", code)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if not name or not file.is_file():
            request.send_response(404)
            request.send_header("X-Error-Code", "EntryNotFound" if name else "RepoNotFound")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        data, start = file.read_bytes(), 0
        asked = request.headers.get("Range")
        if body and asked:
            self.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").partition("-")[0] or 0)
        request.send_response(206 if start else 200)
        request.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        request.send_header("X-Repo-Commit", COMMIT)
        request.send_header("Content-Length", str(len(data) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.end_headers()
        if not body:
            return
        if self.cut is not None and len(data) - start > self.cut:
            request.wfile.write(data[start : start + self.cut])
            request.close_connection = True
            request.connection.close()
            return
        request.wfile.write(data[start:])


@pytest.fixture
def hub(tmp_path):
    folder = write_tiny_encoder(tmp_path / "repository")
    with (folder / "model.safetensors").open("ab") as file:
        file.write(bytes(LARGE))  # bytes of no tensor
    made = Hub(folder)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def pull(hub, tmp_path, own_home):
    """Return a function that runs ``models pull tiny`` with that hub."""
    table = tmp_path / "models.toml"
    sha256 = hashlib.sha256((hub.folder / "model.safetensors").read_bytes()).hexdigest()
    table.write_text(
        '[tiny]\nprovider = "onnx"\ndim = 64\nbytes = 600000\nlicence = "MIT"\nhub = "me/tiny"\nrevision = "main"\n'
        f'files."model.safetensors" = "{sha256}"\nfiles."tokenizer.json" = ""\nfiles."config.json" = ""\n'
    )

    def run(**environment):
        return subprocess.run(
            [sys.executable, "-m", "omnimemory", "models", "pull", "tiny", "--json"],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "HF_ENDPOINT": hub.url,
                "HF_HUB_DOWNLOAD_TIMEOUT": "5",
                "OMNIMEMORY_MODELS_PATH": str(tmp_path / "models"),
                "OMNIMEMORY_MODELS_TABLE": str(table),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    return run


def test_a_model_is_pulled_from_the_hub_with_the_small_files_it_has(pull, hub, tmp_path):
    done = pull()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["from"] == "Hugging Face (me/tiny)"
    files = {path.name for path in (tmp_path / "models" / "tiny").rglob("*") if path.is_file()}
    assert files == {"manifest.json", "model.safetensors", "tokenizer.json", "config.json", "modules.json"} | {
        "sentence_bert_config.json"
    }
    assert all("/me/tiny/resolve/main/" in path for path in hub.paths), hub.paths
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [".tiny.lock", "tiny"]


def test_a_download_that_breaks_goes_on_where_it_was(pull, hub, tmp_path):
    # The client keeps what came in steps of 10 MB.
    hub.cut = LARGE * 2 // 3
    done = pull()
    assert done.returncode == 0, done.stderr  # its client tries again by itself, from where it was
    assert any(not asked.startswith("bytes=0-") for asked in hub.ranges)
    data = (tmp_path / "models" / "tiny" / "model.safetensors").read_bytes()
    assert data == (hub.folder / "model.safetensors").read_bytes()


def test_a_wrong_byte_from_the_hub_is_refused(pull, hub, tmp_path):
    path = hub.folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = pull()
    assert done.returncode == 1
    assert "model.safetensors has the sha256" in done.stderr
    assert not (tmp_path / "models" / "tiny").exists()


@pytest.mark.parametrize(
    ("name", "status", "code", "reason"),
    [
        pytest.param("modules.json", 403, "", "modules.json could not be downloaded", id="refused"),
        pytest.param("modules.json", 0, "", "modules.json could not", id="line-breaks", marks=pytest.mark.slow),
        pytest.param("config.json", 403, "GatedRepo", "/me/tiny has to be accepted first; then say", id="gated"),
        pytest.param("config.json", 404, "RepoNotFound", "no repository me/tiny", id="none", marks=pytest.mark.slow),
        pytest.param("config.json", 404, "RevisionNotFound", "no revision main", id="other", marks=pytest.mark.slow),
    ],
)
def test_what_the_hub_does_not_give_is_never_taken_for_a_file_that_is_not_there(
    pull, hub, tmp_path, name, status, code, reason
):
    hub.refuses[name] = (status, code)
    done = pull()
    assert done.returncode == 1
    assert reason in done.stderr
    assert not (tmp_path / "models" / "tiny").exists()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 cannot be reached"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    ],
    ids=["down", "offline"],
)
def test_without_a_hub_the_reason_and_the_way_out_are_told(pull, environment, reason):
    done = pull(**environment)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "omnimemory models pull tiny --from FOLDER" in done.stderr
