"""``omnimemory models``: what it shows, fetches and deletes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from omnimemory.cli import cli
from tools.tiny_encoders import write_tiny_encoder


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("origin"))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a command with models and a table of models in the test's folder."""
    (tmp_path / "table.toml").write_text(
        '[tiny]\naliases = ["little"]\nprovider = "onnx"\ndim = 64\nbytes = 600000\nlicence = "MIT"\n'
        'capabilities = ["multilingual"]\n'
    )
    monkeypatch.setenv("OMNIMEMORY_MODELS_PATH", str(tmp_path / "models"))
    monkeypatch.setenv("OMNIMEMORY_MODELS_TABLE", str(tmp_path / "table.toml"))

    def invoke(*arguments):
        return CliRunner().invoke(cli, ["models", *map(str, arguments)])

    return invoke


def listed(done) -> dict[str, dict]:
    return {entry["name"]: entry for entry in map(json.loads, done.stdout.splitlines())}


def test_the_list_shows_what_is_known_and_what_is_here(run, origin):
    found = listed(run("list"))
    assert (found["wordllama-256"]["pulled"], found["tiny"]["pulled"]) == (True, False)
    assert found["all-MiniLM-L6-v2"]["aliases"] == ["minilm"]
    assert run("pull", "little", "--from", origin).exit_code == 0
    tiny = listed(run("list", "--pulled"))["tiny"]
    assert (tiny["pulled"], tiny["problem"], tiny["dim"]) == (True, None, 64)
    assert tiny["bytes"] > (origin / "model.safetensors").stat().st_size
    assert listed(run("list", "--pulled")).keys() == {"wordllama-256", "tiny"}


def test_the_list_is_filtered_by_capability(run):
    assert set(listed(run("list", "--capability", "multilingual"))) == {
        "tiny",
        "multilingual-e5-small",
        "embeddinggemma-300m",
        "embeddinggemma-300m-bf16",
    }
    both = set(listed(run("list", "--capability", "multilingual", "--capability", "long")))
    assert both == {"embeddinggemma-300m", "embeddinggemma-300m-bf16"}
    done = run("list", "--capability", "clever")
    assert done.exit_code == 2
    assert "none of english, multilingual" in done.stderr


def test_a_damaged_model_is_shown_and_is_an_error(run, origin, tmp_path):
    run("pull", "tiny", "--from", origin)
    path = tmp_path / "models" / "tiny" / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    done = run("list", "--pulled", "--verify")
    assert done.exit_code == 1
    assert "tokenizer.json is not the file that was pulled" in listed(done)["tiny"]["problem"]
    assert run("pull", "tiny", "--from", origin).exit_code == 0
    assert run("list", "--pulled", "--verify").exit_code == 0


def test_a_damaged_manifest_is_shown_and_does_not_hide_the_other_models(run, origin, tmp_path):
    run("pull", "tiny", "--from", origin)
    (tmp_path / "models" / "bge-small-en-v1.5").mkdir()
    (tmp_path / "models" / "bge-small-en-v1.5" / "manifest.json").write_text("{")
    done = run("list", "--pulled")
    assert done.exit_code == 1
    broken = listed(done)["bge-small-en-v1.5"]
    assert "pull the model again" in broken["problem"]
    assert (broken["licence"], listed(done)["tiny"]["problem"]) == ("MIT", None)
    assert run("rm", "little", "--dry-run").exit_code == 0
    assert "pull the model again" in run("rm", "bge-small-en-v1.5", "--yes").stderr


def test_a_model_that_is_here_is_not_said_to_be_pulled_again(run, origin):
    run("pull", "tiny", "--from", origin)
    again = run("pull", "tiny")
    assert (again.exit_code, again.stderr) == (0, "")
    assert json.loads(again.stdout)["from"] == str(origin)


def test_a_pull_says_where_the_model_is(run, origin, tmp_path):
    made = json.loads(run("pull", "tiny", "--from", origin, "--json").stdout)
    assert made["folder"] == str(tmp_path / "models" / "tiny")
    assert made["from"] == str(origin)
    assert made["bytes"] == listed(run("list"))["tiny"]["bytes"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("pull", "tinny"), 2, "Did you mean tiny?"),
        (("pull", "static"), 1, "there is nothing to pull"),
        (("pull", "tiny"), 1, "No source is known for it"),
        (("pull", "tiny", "--from", "/nowhere"), 1, "there is no such folder"),
        (("rm", "tiny", "--yes"), 2, "not on this machine"),
    ],
    ids=["unknown", "static", "no-source", "no-folder", "not-here"],
)
def test_what_cannot_be_done_is_told(run, arguments, code, message):
    done = run(*arguments)
    assert done.exit_code == code
    assert message in done.stderr


def test_deleting_asks_first_and_can_be_tried(run, origin, tmp_path):
    run("pull", "tiny", "--from", origin)
    would = json.loads(run("rm", "tiny", "--dry-run").stdout)
    done = run("rm", "tiny")
    assert done.exit_code == 2
    assert "confirm that with --yes" in done.stderr
    assert (tmp_path / "models" / "tiny").is_dir()
    assert json.loads(run("rm", "little", "--yes").stdout) == {**would, "removed": True}
    assert not (tmp_path / "models" / "tiny").exists()


def test_what_an_interrupted_pull_has_left_can_be_deleted(run, tmp_path):
    half = tmp_path / "models" / ".tiny.partial"
    (half / "files").mkdir(parents=True)
    (half / "files" / "model.safetensors").write_bytes(bytes(1000))
    assert json.loads(run("rm", "little", "--dry-run").stdout) == {"name": "tiny", "bytes": 1000, "removed": False}
    assert run("rm", "little").exit_code == 2
    assert half.is_dir()
    assert json.loads(run("rm", "little", "--yes").stdout)["removed"]
    assert not half.exists()
    assert run("rm", "little", "--yes").exit_code == 2


def test_a_wrong_table_is_an_error(run, tmp_path):
    (tmp_path / "table.toml").write_text("[tiny\n")
    done = run("list")
    assert done.exit_code == 2
    assert "table.toml: this is no table of models" in done.stderr
