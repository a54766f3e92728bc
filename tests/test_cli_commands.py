"""Each command does its work on a real store, in a pipe and on a terminal."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from omnimemory.cli import cli
from omnimemory.config import SPECS
from omnimemory.memory import Memory
from omnimemory.records import Hit, IngestReport

ROOT = Path(__file__).resolve().parents[1]
HISTORY = """: 1772438400:0;git commit --amend
: 1772438460:3;ffmpeg -i talk.mov talk.mp4
: 1772438520:0;git commit --amend
: 1772438580:0;export API_PASSWORD=correct-horse-battery
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two documents and a history, which is also the current directory; and a store of its own."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "deploy.md").write_text("# Deploy\n\nRoll back a bad release with one command.\n")
    (tmp_path / "docs" / "coffee.txt").write_text("The coffee machine wants fresh water every day.\n")
    (tmp_path / "history.zsh").write_text(HISTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMNIMEMORY_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("OMNIMEMORY_CACHE_PATH", str(tmp_path / "cache"))
    monkeypatch.setenv("OMNIMEMORY_INDEX_ENABLED", "no")  # so few rows are searched exactly, and Chroma takes seconds
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def run(*arguments: str, code: int = 0, text: str | bytes | None = None) -> Result:
    done = CliRunner().invoke(cli, arguments, input=text, prog_name="omnimemory")
    assert done.exit_code == code, done.output
    return done


def lines(done: Result) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def on_terminal(*arguments: str, columns: int = 80, code: int = 0) -> str:
    """Run a command in a child process on a pseudo-terminal, and return what the terminal was sent."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-m", "omnimemory", *arguments],
        stdin=its,
        stdout=its,
        stderr=its,
        env={**os.environ, "TERM": "dumb", "NO_COLOR": "1"},
    )
    os.close(its)
    sent = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        sent += part
    os.close(ours)
    assert child.wait(60) == code, sent
    return sent.decode().replace("\r\n", "\n")


def test_documents_go_in_once_and_are_found(folder):
    (first,) = lines(run("ingest", "docs"))
    assert set(first) == set(IngestReport().to_dict())
    assert (first["added"], first["embedded"], first["failed"]) == (2, 2, 0)
    (again,) = lines(run("ingest", "docs"))
    assert (again["added"], again["unchanged"], again["embedded"]) == (0, 2, 0)
    hits = lines(run("search", "undo", "a", "release"))
    assert set(hits[0]) == set(Hit("", "", "").to_dict())
    assert hits[0]["source"].endswith("docs/deploy.md")
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


def test_a_dry_run_changes_nothing(folder):
    (report,) = lines(run("ingest", "docs", "--dry-run"))
    assert (report["added"], report["embedded"]) == (2, 0)
    (state,) = lines(run("status"))
    assert state["store"]["documents"]["chunks"] == 0


def test_files_that_are_gone_are_forgotten_unless_told_otherwise(folder):
    run("ingest", "docs")
    (folder / "docs" / "coffee.txt").unlink()
    assert lines(run("ingest", "docs", "--no-prune"))[0]["deleted"] == 0
    assert lines(run("ingest", "docs"))[0]["deleted"] == 1
    (folder / "docs" / "deploy.md").unlink()
    assert lines(run("ingest", "docs"))[0]["deleted"] == 0, "an empty folder may be an unmounted one"
    assert lines(run("ingest", "docs", "--prune-all"))[0]["deleted"] == 1


def test_a_file_that_fails_is_named_and_the_exit_code_is_1(folder):
    done = run("ingest", "docs", "missing.md", code=1)
    (report,) = lines(done)
    assert (report["added"], report["failed"]) == (2, 1)
    assert "missing.md" in done.stderr


def test_what_was_skipped_or_failed_is_named_but_never_endlessly(folder):
    for number in range(30):
        (folder / "docs" / f"{number}.bin").write_bytes(b"\0" * 100)
    done = run("ingest", "docs", "missing.md", code=1)
    named = done.stderr.splitlines()
    assert len(named) == 21
    assert named[0].startswith("failed: ")
    assert "missing.md" in named[0]
    assert named[1].startswith("skipped: ")
    assert named[-1] == "... and 11 more; --json names them all"
    assert run("ingest", "docs", "missing.md", "--json", code=1).stderr == ""


def test_history_goes_in_redacted_and_only_its_new_part_again(folder):
    (first,) = lines(run("ingest-history", "history.zsh"))
    assert (first["added"], first["events"], first["redacted"]) == (3, 4, 1)
    with (folder / "history.zsh").open("a") as file:
        file.write(": 1772438640:0;docker ps\n")
    (again,) = lines(run("ingest-history", "history.zsh", "--shell", "zsh"))
    assert (again["added"], again["events"]) == (1, 1)
    stored = {hit["text"] for hit in lines(run("search", "export", "--mode", "keyword", "--kind", "commands"))}
    assert not any("correct-horse-battery" in text for text in stored)
    assert any("REDACTED" in text for text in stored)


def test_a_history_is_read_as_the_shell_that_is_named(folder):
    run("ingest-history", "history.zsh", "--shell", "bash")
    (hit,) = lines(run("search", "ffmpeg", "--mode", "keyword", "--kind", "commands"))
    assert hit["text"] == ": 1772438460:3;ffmpeg -i talk.mov talk.mp4"


def test_without_a_file_the_users_own_history_is_read(folder, own_home):
    (own_home / ".zsh_history").write_text(HISTORY)
    assert lines(run("ingest-history", "--shell", "zsh"))[0]["events"] == 4


@pytest.mark.parametrize("route", ["flag", "environment"])
def test_secrets_are_kept_only_when_asked(route, folder, monkeypatch):
    if route == "environment":
        monkeypatch.setenv("OMNIMEMORY_HISTORY_KEEP_SECRETS", "yes")
    (report,) = lines(run("ingest-history", "history.zsh", *(["--keep-secrets"] if route == "flag" else [])))
    assert report["redacted"] == 0
    found = lines(run("search", "export", "--mode", "keyword"))
    assert found[0]["text"] == "export API_PASSWORD=correct-horse-battery"


def test_a_missing_history_is_one_line_of_error(folder):
    done = run("ingest-history", "nowhere", code=1)
    assert re.fullmatch(r"Error: .*nowhere.*\n", done.stderr)


def test_notes_are_added_with_ids_and_metadata_and_from_standard_input(folder):
    assert lines(run("add", "staging runs on port 5433", "--id", "port"))[0] == {"ids": ["port"]}
    run("add", "Ada likes tea", "Bob likes coffee", "--meta", "topic=people", "--meta", "n:=2")
    run("add", "-", text="déjà vu\nsecond line\n".encode())
    (hit,) = lines(run("search", "likes coffee", "--where", '{"topic": "people", "n": 2}', "-k", "1"))
    assert (hit["text"], hit["metadata"]["topic"], hit["metadata"]["n"]) == ("Bob likes coffee", "people", 2)
    assert lines(run("search", "port", "--mode", "keyword"))[0]["id"] == "port"
    assert "second line" in lines(run("search", "déjà", "--mode", "keyword"))[0]["text"]


def test_standard_input_that_is_no_text_is_refused(folder):
    assert "not UTF-8 (byte 1)" in run("add", "-", text=b"a\xff", code=2).stderr


def test_search_options_reach_the_search(folder):
    run("ingest", "docs")
    run("ingest-history", "history.zsh")
    assert {hit["kind"] for hit in lines(run("search", "release"))} == {"documents", "commands"}
    for kind in ("documents", "commands"):
        assert {hit["kind"] for hit in lines(run("search", "release", "--kind", kind))} == {kind}
    assert len(lines(run("search", "release", "--top-k", "1"))) == 1
    assert all(hit["score"] >= 0.3 for hit in lines(run("search", "bad release", "--min-score", "0.3")))
    assert not lines(run("search", "release", "--min-score", "0.999"))
    for mode, ranks in (("vector", {"vector"}), ("keyword", {"keyword"})):
        assert {rank for hit in lines(run("search", "release", "--mode", mode)) for rank in hit["ranks"]} == ranks
    (hit,) = lines(run("search", "git", "--kind", "commands", "--where", '{"count": {"$gt": 1}}'))
    assert hit["text"] == "git commit --amend"


def test_settings_of_the_environment_and_the_project_reach_the_search(folder, monkeypatch):
    run("ingest", "docs")
    run("ingest-history", "history.zsh")
    (folder / "omnimemory.toml").write_text("[search]\nk = 2\n")
    assert len(lines(run("search", "git"))) == 2
    monkeypatch.setenv("OMNIMEMORY_SEARCH_K", "1")
    assert len(lines(run("search", "git"))) == 1
    assert len(lines(run("search", "git", "-k", "3"))) == 3


def test_an_explanation_goes_to_standard_error_and_leaves_the_hits_alone(folder):
    run("ingest", "docs")
    done = run("search", "release", "--explain")
    assert lines(done) == lines(run("search", "release"))
    assert ": " in done.stderr


def test_a_store_that_is_not_there_is_not_made_by_a_search(folder):
    done = run("--store", str(folder / "other"), "search", "x")
    assert done.stdout == ""
    assert f"no memory at {folder / 'other'}" in done.stderr
    assert "omnimemory ingest PATH" in done.stderr
    assert not (folder / "other").exists()


def test_an_empty_memory_says_how_to_fill_it(folder):
    assert "omnimemory ingest PATH" not in run("status", "--json").stderr
    assert "omnimemory ingest PATH" in run("search", "x").stderr
    run("ingest", "docs")
    assert run("search", "x", "--min-score", "1").stderr == "Nothing found.\n"


def test_the_store_option_beats_the_environment(folder):
    run("--store", str(folder / "mine"), "ingest", "docs")
    assert (folder / "mine").is_dir()
    assert not (folder / "store").exists()


def test_status_is_one_object_about_everything(folder):
    run("ingest", "docs")
    run("ingest-history", "history.zsh")
    (state,) = lines(run("status"))
    assert (state["store"]["documents"]["chunks"], state["store"]["commands"]["events"]) == (2, 4)


def test_the_cache_is_counted_and_emptied_and_the_memory_stays(folder):
    run("ingest", "docs")
    assert lines(run("cache", "stats"))[0]["items"] == 2
    assert lines(run("cache", "clear"))[0] == {"removed": 2}
    assert lines(run("cache", "stats"))[0]["items"] == 0
    assert lines(run("search", "release", "-k", "1"))[0]["source"].endswith("deploy.md")


def test_the_cache_commands_say_when_there_is_none(folder, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_CACHE_ENABLED", "false")
    assert "cache.enabled" in run("cache", "stats", code=2).stderr


def test_config_shows_every_setting_with_its_origin(folder, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_SEARCH_K", "7")
    (shown,) = lines(run("config"))
    assert set(shown) == set(SPECS)
    assert shown["search.k"]["value"] == 7
    assert "OMNIMEMORY_SEARCH_K" in shown["search.k"]["from"]
    assert shown["search.mode"]["from"] == "default"
    assert all(setting["meaning"] for setting in shown.values())
    assert lines(run("config", "show")) == [shown]
    assert run("config", "get", "search.k").stdout == "7\n"
    assert lines(run("config", "get", "search.k", "--json"))[0]["search.k"] == 7
    assert run("config", "get", "search.weight").stdout == "none\n"
    assert run("config", "get", "cache.enabled").stdout == "true\n"
    assert not (folder / "store").exists()


def test_config_names_the_files_that_hold_settings(folder, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "conf"))
    (shown,) = lines(run("config", "path"))
    assert shown["user"] == {"path": str(folder / "conf" / "omnimemory" / "config.toml"), "exists": False}
    assert shown["project"] == {"path": str(folder / "omnimemory.toml"), "exists": False}
    assert shown["store"]["path"] == str(folder / "store")
    (folder / "omnimemory.toml").touch()
    assert lines(run("config", "path"))[0]["project"]["exists"]


@pytest.mark.parametrize("command", [["search", "x"], ["status"], ["config"], ["ingest", "docs"], ["cache", "stats"]])
def test_a_bad_settings_file_is_named_with_its_line_and_exits_with_2(command, folder):
    (folder / "omnimemory.toml").write_text("[search]\nkk = 2\n")
    done = run(*command, code=2)
    assert done.stderr == (
        f"Error: {folder}/omnimemory.toml:2: there is no setting 'search.kk': did you mean search.k?\n"
    )


def test_an_unknown_key_is_told_its_nearest_relative(folder):
    assert "did you mean search.k?" in run("config", "get", "serch.k", code=2).stderr


# -- on a terminal


def test_on_a_terminal_hits_are_a_table_with_file_and_line(folder):
    run("ingest", "docs")
    run("ingest-history", "history.zsh")
    shown = on_terminal("search", "roll back a bad release")
    assert max(map(len, shown.splitlines())) <= 80
    head, first, *_ = shown.splitlines()
    assert head.split() == ["score", "text"]
    assert re.match(r" *-?\d\.\d{3}  ", first)
    assert "docs/deploy.md:1" in shown
    commands = on_terminal("search", "git", "commit", "--kind", "commands", "--explain")
    assert re.search(r"git commit --amend *\n +2x, 2026-03-0\d \d\d:\d\d; vector rank 1, keyword rank 1 *\n", commands)


def test_on_a_terminal_the_other_commands_speak_as_well(folder):
    assert "2 chunks added" in on_terminal("ingest", "docs")
    assert "would be" in on_terminal("ingest", "docs", "--dry-run")
    history = on_terminal("ingest-history", "history.zsh")
    assert "4 history events" in history
    assert "1 secret taken out" in history
    assert "stored n1" in on_terminal("add", "a note", "--id", "n1")
    assert "Nothing found." in on_terminal("search", "x", "--min-score", "1")
    assert re.search(r"store\.commands\.events +4\b", on_terminal("status"))
    assert "vectors removed" in on_terminal("cache", "clear")
    assert re.search(r"items +0\b", on_terminal("cache", "stats"))
    assert re.search(r"search\.k +10 +default", on_terminal("config"))
    assert "tokens in a chunk" in on_terminal("config", "show", "--explain", columns=160)
    assert "exists" in on_terminal("config", "path", columns=200)
    failed = on_terminal("ingest", "gone.md", code=1)
    assert "gone.md" in failed


def test_json_can_be_had_on_a_terminal(folder):
    run("ingest", "docs")
    shown = on_terminal("search", "release", "-k", "1", "--json", columns=400)
    assert json.loads(shown.splitlines()[-1])["source"].endswith("deploy.md")


def test_an_empty_memory_says_so_on_a_terminal(folder):
    assert "omnimemory ingest-history" in on_terminal("status")


def test_what_a_document_holds_never_reaches_the_terminal_as_control_characters(folder):
    evil = "\x1b]52;c;cm0gLXJm\x07 \x9b2J \u202egnp.exe\u202c [bold]invoice[/bold] \x7f"
    (folder / "docs" / "evil\x1b[31m.txt").write_text(f"invoice {evil}\n")
    (folder / "history.zsh").write_bytes(f": 1:0;echo invoice \x1b[2J \u202e{'x' * 30}\n".encode())
    run("ingest", "docs")
    run("ingest-history", "history.zsh")
    shown = on_terminal("search", "invoice", columns=200)
    assert "[bold]invoice[/bold]" in shown
    assert r"\x1b" in shown
    for character in ("\x1b", "\x9b", "\x07", "\x7f", "\u202e", "\u202c"):
        assert character not in shown
    piped = run("search", "invoice").stdout
    assert all(" " <= character <= "~" or character == "\n" for character in piped)
    assert any("\x1b" in hit["text"] for hit in lines(run("search", "invoice"))), "it is stored as it was"


def test_progress_is_shown_on_a_terminal_and_nowhere_else(folder):
    for number in range(40):
        (folder / "docs" / f"{number}.txt").write_text(f"Note number {number} about subject {number * 7}.\n")
    command = [sys.executable, "-m", "omnimemory", "ingest", "docs"]
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=its, env=environment, check=True, timeout=60)
    os.close(its)
    assert json.loads(done.stdout)["added"] == 42, "standard output holds the report and nothing else"
    assert b"documents" in os.read(ours, 65536)
    os.close(ours)
    piped = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert piped.stderr == b""


# -- stopping


INTERRUPTED = """
import os, signal, sys
def hook(event, arguments):
    if event == "open" and str(arguments[0]).endswith("note-150.txt"):
        os.kill(os.getpid(), signal.{signal})
sys.addaudithook(hook)
from omnimemory.cli import main
sys.argv = ["omnimemory", "ingest", "notes"]
main()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_ingest_keeps_what_it_committed_and_the_next_one_completes_it(name, code, folder, monkeypatch):
    monkeypatch.setenv("OMNIMEMORY_EMBEDDING_BATCH_SIZE", "50")
    (folder / "notes").mkdir()
    for number in range(200):
        (folder / "notes" / f"note-{number:03}.txt").write_text(f"Note {number}: subject {number * 37 % 101}.\n")
    stopped = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(signal=name)], capture_output=True, check=False, timeout=60, text=True
    )
    assert stopped.returncode == code, stopped.stderr
    assert stopped.stdout == ""
    if name == "SIGINT":
        assert stopped.stderr.strip() == "stopped; what was committed is kept, run again to continue"
    with Memory(folder / "store") as memory:
        kept = memory.status()["store"]["documents"]["chunks"]
    assert 50 <= kept < 200
    (rest,) = lines(run("ingest", "notes"))
    assert (rest["added"], rest["unchanged"]) == (200 - kept, kept)
    assert len({hit["id"] for hit in lines(run("search", "note subject", "-k", "300", "--mode", "vector"))}) == 200


def test_an_interrupt_while_waiting_for_input_ends_at_once(folder):
    reader, writer = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "omnimemory", "add", "-"], stdin=reader, stderr=subprocess.PIPE
    )
    os.close(reader)
    assert child.stderr is not None
    for line in child.stderr:  # told as soon as it is imported: from here on the command is looked up and run
        if b"omnimemory.cli.progress" in line:
            break
    child.send_signal(signal.SIGINT)
    _, rest = child.communicate(timeout=60)
    os.close(writer)
    assert child.returncode == 130
    assert b"stopped" in rest
