"""What hooks write down is stored once, whatever happens between writing and storing."""

from __future__ import annotations

import os
import stat
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.records import Event
from omnimemory.sources.history.spool import read_spool, retire
from omnimemory.sources.spool_folder import spool_folder, spool_waits
from tests.spool_cases import NOW, spooled, write

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@given(commands=st.lists(TEXT, max_size=5), junk=st.sampled_from([b"", b"1\0zsh\0s", b"\0\0\n", b"1\0a\0b\0c\0\n"]))
def test_every_whole_record_is_read_and_a_half_written_one_is_none(commands, junk, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spool")
    data = b"".join(spooled(command, start=NOW + at) for at, command in enumerate(commands))
    (folder / "zsh.1.spool").write_bytes(data + junk)
    (file,) = read_spool(folder)
    assert [event.command for event in file.events] == commands
    assert file.unreadable == 0


@pytest.mark.parametrize("cut", [1, 5, 20, 40])
def test_a_record_that_was_cut_short_costs_no_other(cut, tmp_path):
    (tmp_path / "a.spool").write_bytes(spooled("first")[:cut] + spooled("second") + spooled("third"))
    (file,) = read_spool(tmp_path)
    assert [event.command for event in file.events][-1] == "third"
    assert len(file.events) + file.unreadable >= 2


@pytest.mark.parametrize(
    ("fields", "event"),
    [
        (
            {"start": "1700000000.25", "end": "1700000001.75"},
            Event("ls", 1700000000.25, "/src", 0, 1.5, "s", None, "zsh"),
        ),
        (
            {"start": "1700000000250000", "end": "1700000001,75"},
            Event("ls", 1700000000.25, "/src", 0, 1.5, "s", None, "zsh"),
        ),
        (
            {"start": "", "end": "1700000001.5", "took": "500"},
            Event("ls", 1700000001.0, "/src", 0, 0.5, "s", None, "zsh"),
        ),
        ({"start": "x", "end": "", "code": "bad", "cwd": ""}, Event("ls", None, None, None, None, "s", None, "zsh")),
    ],
    ids=["seconds", "microseconds-and-a-comma", "fish", "nothing-is-known"],
)
def test_shells_write_times_in_their_own_ways(fields, event, tmp_path):
    (tmp_path / "a.spool").write_bytes(spooled("ls", **fields))
    (file,) = read_spool(tmp_path)
    assert file.events == (event,)


def test_a_file_goes_in_two_steps_so_that_its_shell_may_be_writing(tmp_path):
    path = tmp_path / "a.spool"
    path.write_bytes(spooled("ls"))
    with path.open("ab") as writer:
        retire(next(read_spool(tmp_path)))
        assert not path.exists()
        writer.write(spooled("pwd"))  # the shell had it open
    (file,) = read_spool(tmp_path)
    assert [event.command for event in file.events] == ["ls", "pwd"]
    retire(file, clock=lambda: time.time() + 1)
    assert file.path.exists()
    retire(file, clock=lambda: time.time() + 3)
    assert not spool_waits(tmp_path)


def test_a_file_that_has_grown_since_it_was_read_stays(tmp_path):
    path = tmp_path / "a.spool"
    path.write_bytes(spooled("ls"))
    (file,) = read_spool(tmp_path)
    path.write_bytes(spooled("ls") * 2)
    retire(file, now=True)
    assert path.exists()


def test_searches_predictions_and_ingests_bring_it_in_once(memory, settings):
    folder = spool_folder(settings.store.path)
    write(folder, "zsh.1.spool", "cd api", "make test", "cd api")
    assert stat.S_IMODE((folder / "zsh.1.spool").stat().st_mode) != 0o600
    (hit,) = memory.search("make test", kind="commands", k=1)
    assert (hit.text, hit.metadata["cwd"], hit.metadata["exit_code"], hit.metadata["session"]) == (
        "make test",
        "/src",
        0,
        "s",
    )
    assert [file.path.stat().st_mode & 0o777 for file in read_spool(folder)] == [0o600]
    write(folder, "zsh.1.spool", "make build", start=NOW + 50)
    assert "make build" in [one.command for one in memory.next_command(["cd api"])]
    assert memory.search("make build", kind="commands", k=1)[0].text == "make build"
    assert memory.status()["store"]["commands"]["events"] == 4
    assert memory.take_spool() == 0


def test_secrets_and_what_is_not_to_be_kept_never_reach_the_memory(memory, settings, tmp_path):
    folder = spool_folder(settings.store.path)
    secret = "hunter22xyz"
    write(folder, "zsh.1.spool", f"mysql -p{secret}", " echo private", "omnimemory forget --pattern x")
    assert memory.take_spool(now=True) == 1
    assert not spool_waits(folder)
    memory.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert secret.encode() not in stored
    assert b"private" not in stored


def test_what_is_forgotten_does_not_come_back_from_the_spool(memory, settings):
    folder = spool_folder(settings.store.path)
    write(folder, "zsh.1.spool", "make test", "rm -rf old")
    memory.forget(pattern="rm -rf")
    assert not spool_waits(folder)
    write(folder, "zsh.1.spool", "make test", "rm -rf old")
    memory.take_spool()
    assert {hit.text for hit in memory.search("rm old", kind="commands")} == {"make test"}


def test_a_spool_that_cannot_be_read_keeps_no_search_from_answering(memory, settings):
    memory.record("make test", 0)
    folder = spool_folder(settings.store.path)
    folder.mkdir()
    os.mkfifo(folder / "a.spool")
    assert memory.search("make test", kind="commands")[0].text == "make test"
    assert spool_waits(folder)
