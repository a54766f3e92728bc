"""The demo is worth reading: right answers from the real model, secrets gone, nothing left behind."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

import omnimemory
from omnimemory.cli import cli
from omnimemory.cli.demo import MADE_UP_SECRETS, QUERIES

SAMPLES = Path(omnimemory.__file__).parent / "samples"
BEST = {
    "why did checkout go down": "postmortem-checkout-outage.md",
    "restore the database from a backup": "backup-and-restore.md",
    "undo the last commit": "onboarding.md",
    "convert a video": "ffmpeg -i recording.mov -vcodec libx264 -crf 23 recording.mp4",
    "who is listening on port 5432": "lsof -i :5432",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def environment(home):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMNIMEMORY_", "XDG_"))}
    (home / "tmp").mkdir()
    return {**kept, "HOME": str(home), "TMPDIR": str(home / "tmp"), "PYTHONPATH": str(SAMPLES.parents[1])}


@pytest.fixture(scope="module")
def text(environment):
    command = [sys.executable, "-m", "omnimemory", "demo"]
    done = subprocess.run(
        command, env=environment, capture_output=True, check=True, timeout=100, cwd=environment["HOME"]
    )
    assert done.stderr == b""
    return done.stdout.decode()


@pytest.fixture(scope="module")
def data(environment):
    command = [sys.executable, "-m", "omnimemory", "demo", "--json"]
    done = subprocess.run(
        command, env=environment, capture_output=True, check=True, timeout=100, cwd=environment["HOME"]
    )
    return json.loads(done.stdout)


@pytest.mark.slow
def test_it_is_plain_text_that_fits_a_terminal(text):
    lines = text.splitlines()
    assert len(lines) <= 70
    assert max(map(len, lines)) <= 80
    assert all(character == "\n" or character.isprintable() for character in text)


def test_it_tells_what_it_did_and_what_to_try_next(text):
    for query, _ in QUERIES:
        assert f"omnimemory search {query}" in text
    for words in (
        "0 texts embedded",
        "secrets taken out",
        "REDACTED",
        "omnimemory ingest-history",
        " ms",
        "none of them",
    ):
        assert words in text
    assert not any(secret in text for secret in MADE_UP_SECRETS)


def test_it_leaves_nothing_behind(text, data, home):
    left = [path for path in home.rglob("*") if path.is_file()]
    assert left == []
    assert list((home / "tmp").iterdir()) == []


def test_all_samples_are_read(data):
    documents, history = data["documents"], data["history"]
    assert documents["sources"] == len(list((SAMPLES / "docs").iterdir())) == 8
    assert (documents["failed"], documents["skipped"], documents["redacted"]) == (0, 0, 0)
    assert documents["added"] > 8
    assert history["events"] == (SAMPLES / "history.zsh").read_text().count("\n: ") + 1
    assert 100 < history["added"] < history["events"], "some commands were run more than once"
    assert (history["failed"], history["redacted"]) == (0, 3)
    assert (data["again"]["embedded"], data["again"]["unchanged"]) == (0, documents["added"])
    assert data["leaks"] == []


@pytest.mark.parametrize("number", range(len(QUERIES)), ids=[query for query, _ in QUERIES])
def test_the_best_hit_is_the_right_one(number, data):
    answer = data["answers"][number]
    best = answer["hits"][0]
    found = Path(best["source"]).name if best["kind"] == "documents" else best["text"]
    assert found == BEST[answer["query"]]


def test_the_secrets_are_in_the_history_but_not_in_the_memory(data):
    history = (SAMPLES / "history.zsh").read_text()
    assert all(secret in history for secret in MADE_UP_SECRETS)
    assert "REDACTED" in data["redacted"][0]["text"]


def test_the_samples_name_nobodys_machine_and_hold_no_live_looking_token():
    for path in SAMPLES.rglob("*"):
        if path.is_file():
            content = path.read_text()
            assert not re.search(r"(ghp_|sk-|AKIA|xox[bp]-|-----BEGIN|eyJ)\w*", content)
            assert not re.search(r"\b(?!localhost|127\.)\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b", content)
            assert all("example.com" in host for host in re.findall(r"[\w.-]+\.com\b", content))


def test_a_named_store_stays_and_can_be_searched(tmp_path, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_CACHE_PATH", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = str(tmp_path / "kept")
    done = CliRunner().invoke(cli, ["--store", store, "demo"])
    assert done.exit_code == 0, done.output
    assert f"omnimemory --store {store}" in done.stdout
    found = CliRunner().invoke(cli, ["--store", store, "search", "undo the last commit", "-k", "1"])
    assert Path(json.loads(found.stdout)["source"]).is_file(), "what it found is still there to be read"
    again = CliRunner().invoke(cli, ["--store", store, "demo", "--json"])
    assert json.loads(again.stdout)["documents"]["embedded"] == 0
