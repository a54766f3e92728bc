"""The doctor names what is wrong, says what to do about it, and changes nothing."""

import hashlib
import json
import os
import shutil

import pytest
from care_cases import (
    DAMAGED_ROW,
    FLIPPED_TEXT,
    FLIPPED_VECTOR,
    LOST_EVENT,
    LOST_VECTORS,
    LOST_WORDS,
    NO_TEXT,
    ORPHAN,
    WRONG_COUNTER,
    broken_cache,
    fill,
    garble_page,
    in_catalog,
    make_old,
    memory_of,
    opened_to_all,
)
from click.testing import CliRunner

from omnimemory.care.doctor import CHECKS, examine
from omnimemory.cli import cli
from omnimemory.storage.lock import IndexLock


@pytest.fixture
def healthy(settings, tmp_path):
    return fill(settings, tmp_path)


def test_a_healthy_memory_has_no_findings(healthy):
    found = examine(healthy)
    assert (found.findings, found.skipped, found.ok) == ((), (), True)
    assert found.checks == tuple(CHECKS)
    with memory_of(healthy) as memory:
        assert memory.doctor().findings == ()


def test_a_memory_that_is_not_there_is_said_and_not_made(settings):
    (finding,) = examine(settings).findings
    assert (finding.check, finding.severity) == ("store", "notice")
    assert not settings.store.path.exists()
    assert not settings.cache.path.exists()


AILMENTS = [
    pytest.param(lambda s: (s.store.path / "catalog.sqlite3").unlink(), "store", "error", "gone", id="catalog gone"),
    pytest.param(
        lambda s: (s.store.path / "catalog.sqlite3.seal").unlink(), "store", "notice", "no seal", id="no seal"
    ),
    pytest.param(lambda s: os.utime(s.store.path / "catalog.sqlite3"), "store", "notice", "changed from", id="touched"),
    pytest.param(
        in_catalog("UPDATE alembic_version SET version_num = '0001'"), "schema", "notice", "older", id="older"
    ),
    pytest.param(in_catalog("UPDATE alembic_version SET version_num = '9999'"), "schema", "error", "newer", id="newer"),
    pytest.param(lambda s: garble_page(s, "events_source"), "structure", "error", "catalog", id="a garbled index"),
    pytest.param(lambda s: garble_page(s, "chunks"), "structure", "error", "catalog", id="a garbled table"),
    pytest.param(FLIPPED_VECTOR, "content", "error", "1 of the vectors is damaged (rows 3)", id="a flipped vector"),
    pytest.param(FLIPPED_TEXT, "content", "error", "1 of the chunks is damaged", id="a flipped text"),
    pytest.param(NO_TEXT, "content", "error", "1 of the commands is damaged", id="no text"),
    pytest.param(LOST_EVENT, "content", "error", "1 of the events is damaged", id="a wrong event"),
    pytest.param(WRONG_COUNTER, "content", "error", "counters", id="rows that never were"),
    pytest.param(LOST_WORDS, "keywords", "error", "commands_fts", id="keywords lost"),
    pytest.param(LOST_VECTORS, "vectors", "warning", "no vector", id="vectors lost"),
    pytest.param(ORPHAN, "vectors", "warning", "belong to nothing", id="a vector of nothing"),
    pytest.param(
        in_catalog("UPDATE commands SET pending = 1 WHERE id < 4"), "vectors", "notice", "3 texts", id="pending"
    ),
    pytest.param(
        in_catalog("INSERT INTO purges (place) VALUES ('index')"), "purges", "warning", "index", id="unpurged"
    ),
    pytest.param(DAMAGED_ROW, "cache", "warning", "1 of", id="a damaged row of the cache"),
    pytest.param(broken_cache, "cache", "warning", "broken", id="a broken cache"),
    pytest.param(lambda s: shutil.rmtree(s.cache.path), "cache", "notice", "no cache", id="no cache"),
    pytest.param(opened_to_all, "files", "warning", "of the files", id="open to others"),
    pytest.param(
        lambda s: make_old(s.store.path / "catalog.sqlite3.ab12.new"), "leftovers", "notice", "1 unf", id="a draft"
    ),
    pytest.param(
        lambda s: make_old(s.cache.path / "cache.damaged"), "leftovers", "notice", "set aside", id="set aside"
    ),
]


@pytest.mark.parametrize(("harm", "check", "severity", "words"), AILMENTS)
def test_what_is_wrong_is_named_with_what_to_do(healthy, harm, check, severity, words):
    harm(healthy)
    found = examine(healthy)
    named = [finding for finding in found.findings if (finding.check, finding.severity) == (check, severity)]
    assert any(words in finding.message for finding in named), found.findings
    assert all(finding.fix for finding in named if severity != "notice")
    assert found.ok is (severity == "notice")
    assert json.loads(json.dumps(found.to_dict()))["findings"][0].keys() == {"check", "severity", "message", "fix"}


def test_a_draft_that_is_being_written_is_no_left_over(healthy):
    (healthy.store.path / "catalog.sqlite3.ab12.new").write_bytes(b"now")
    (healthy.store.path / "catalog.sqlite3.ab12.new").chmod(0o600)
    assert examine(healthy).findings == ()


def test_no_room_for_a_rebuild_is_said(healthy):
    with (healthy.store.path / "huge").open("wb") as file:
        file.truncate(2**43)  # takes no room itself
    (healthy.store.path / "huge").chmod(0o600)
    assert [(finding.check, finding.severity) for finding in examine(healthy).findings] == [("room", "warning")]


def test_another_model_than_the_settings_name_is_said(healthy):
    (finding,) = [
        one for one in examine(healthy.with_values({"embedding.dim": 64})).findings if one.severity == "error"
    ]
    assert finding.check == "model"
    assert "wordllama-256" in finding.message
    assert "wordllama-64" in finding.message


def test_an_index_that_somebody_uses_is_left_alone(healthy):
    in_catalog("INSERT INTO generations (id, state) VALUES (1, 'active')")(healthy)
    made_by_chroma = healthy.store.path / "index" / "1"
    made_by_chroma.mkdir(parents=True)
    made_by_chroma.chmod(0o755)
    lock = IndexLock(healthy.store.path / "index.lock")
    assert lock.acquire()
    found = examine(healthy.with_values({"index.enabled": True}))
    lock.release()
    assert found.ok
    assert [text.partition(":")[0] for text in found.skipped] == ["index"]
    assert "files" in [one.check for one in examine(healthy).findings]


def test_folders_of_old_indexes_and_a_lost_index_are_said(healthy):
    in_catalog("INSERT INTO generations (id, state) VALUES (2, 'active')")(healthy)
    (healthy.store.path / "index" / "1").mkdir(parents=True, mode=0o700)
    (healthy.store.path / "index").chmod(0o700)
    found = [one for one in examine(healthy.with_values({"index.enabled": True})).findings if one.check == "index"]
    assert [(one.severity, one.fix.split()[1]) for one in found if one.fix.startswith("omnimemory")] == [
        ("error", "repair"),
        ("notice", "maintain"),
    ]


def test_nothing_is_changed(healthy):
    def everything():
        tops = (healthy.store.path, healthy.cache.path)
        files = [path for top in tops for path in sorted(top.rglob("*")) if not path.name.endswith(("-shm", "-wal"))]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}

    FLIPPED_VECTOR(healthy)
    LOST_WORDS(healthy)
    examine(healthy)  # notes in the seal that a check failed
    before = everything()
    examine(healthy)
    assert everything() == before


def run(settings, *arguments):
    environment = {
        "OMNIMEMORY_STORE": str(settings.store.path),
        "OMNIMEMORY_CACHE_PATH": str(settings.cache.path),
        "OMNIMEMORY_INDEX_ENABLED": "no",
    }
    return CliRunner(env=environment).invoke(cli, arguments, prog_name="omnimemory")


def test_the_command_ends_with_0_for_a_healthy_memory_and_with_1_for_an_ill_one(healthy):
    well = run(healthy, "doctor")
    assert (well.exit_code, json.loads(well.stdout)["ok"]) == (0, True)
    FLIPPED_VECTOR(healthy)
    ill = run(healthy, "doctor", "--json")
    assert ill.exit_code == 1
    (finding,) = [one for one in json.loads(ill.stdout)["findings"] if one["severity"] == "error"]
    assert finding["fix"] == "omnimemory repair"


@pytest.mark.parametrize("command", [["status"], ["cache", "stats"], ["cache", "clear"], ["doctor"], ["maintain"]])
def test_looking_at_a_memory_that_is_not_there_does_not_make_it(settings, command):
    done = run(settings, *command)
    assert done.exit_code == 0, done.output
    assert not settings.store.path.exists()
    assert not settings.cache.path.exists()


@pytest.mark.slow
def test_an_index_without_a_manifest_is_questioned_and_that_is_said(indexed, tmp_path):
    fill(indexed, tmp_path)
    manifest = next((indexed.store.path / "index").iterdir()) / "manifest.json"
    manifest.unlink()
    said = [[finding.message for finding in examine(indexed).findings if finding.check == "index"] for _ in range(2)]
    assert ["questioned and is whole" in " ".join(messages) for messages in said] == [True, False]
    assert manifest.exists()
