"""``omnimemory reembed``: what it prints, asks and refuses."""

import json

import pytest
from click.testing import CliRunner
from reembed_cases import notes

from omnimemory.cli import cli
from omnimemory.memory import Memory


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current directory with a store of twenty notes in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMNIMEMORY_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("OMNIMEMORY_CACHE_PATH", str(tmp_path / "cache"))
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "no")
    with Memory(model="static") as memory:
        memory.add(notes(20))
    return tmp_path


def run(*arguments, code=0, text=None):
    done = CliRunner().invoke(cli, ("reembed", *arguments), input=text, prog_name="omnimemory")
    assert done.exit_code == code, done.output
    return done


def test_it_is_estimated_done_and_confirmed(folder):
    report = json.loads(run("--dim", "128", "--dry-run").stdout)
    assert (report["state"], report["texts"], report["after"]) == ("estimated", 20, "static:wordllama-128")
    report = json.loads(run("--dim", "128").stdout)
    assert (report["state"], report["embedded"]) == ("moved", 20)
    report = json.loads(run("--confirm", "--yes").stdout)
    assert (report["state"], report["dropped"]) == ("confirmed", 20)
    assert json.loads(run("--model", "static", "--dim", "128").stdout)["state"] == "unchanged"


def test_it_goes_back(folder):
    run("--dim", "64")
    assert "static:wordllama-64" in run("--model", "static", "--dim", "64").stdout
    report = json.loads(run("--undo", "--yes").stdout)
    assert (report["state"], report["after"], report["dropped"]) == ("undone", "static:wordllama-256", 20)


def test_settings_may_name_the_new_model_already(folder, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_EMBEDDING_MODEL", "static:wordllama-64")
    refused = CliRunner().invoke(cli, ["search", "harbour"], prog_name="omnimemory")
    assert refused.exit_code == 1
    assert "omnimemory reembed --model static:wordllama-64" in refused.stderr
    moved = run("--model", "static:wordllama-64")
    assert json.loads(moved.stdout)["state"] == "moved"
    assert "names another model" not in moved.stderr
    assert CliRunner().invoke(cli, ["search", "harbour"], prog_name="omnimemory").exit_code == 0


def test_where_nothing_is_there_is_nothing_to_move(folder, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_STORE", str(folder / "none"))
    assert "There is no memory at" in run("--dim", "64", code=1).stderr
    assert not (folder / "none").exists()


def test_settings_that_name_the_old_model_are_pointed_out(folder, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_EMBEDDING_MODEL", "static")
    said = run("--model", "static:wordllama-64").stderr
    assert "OMNIMEMORY_EMBEDDING_MODEL names another model (static)" in said
    assert "set embedding.model to auto, or to static:wordllama-64" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param((), "say --model", id="nothing"),
        pytest.param(("--model", "static", "--undo"), "say --model", id="two things"),
        pytest.param(("--confirm", "--dry-run"), "--dry-run is for", id="a dry run of deleting"),
        pytest.param(("--confirm",), "say --yes", id="deleting without being asked"),
        pytest.param(("--undo",), "say --yes", id="going back without being asked"),
        pytest.param(("--model", "nothing"), "no embedding model 'nothing'", id="no such model"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(folder, arguments, message):
    done = run(*arguments, code=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
