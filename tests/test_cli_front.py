"""The front door: ``--help`` is light and complete, and whatever goes wrong ends in one line and an exit code."""

import importlib
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import omnimemory
from omnimemory.cli import COMMANDS, LazyGroup, cli
from omnimemory.errors import (
    ConfigError,
    ModelServerError,
    OmniMemoryError,
    SourceError,
    StoreBusyError,
    StoreFullError,
)

HEAVY = {
    *("numpy", "chromadb", "rich", "httpx", "sqlite3", "platformdirs", "tokenizers", "diskcache", "psutil", "alembic"),
    *("json", "tomllib", "tempfile", "subprocess", "importlib.metadata", "importlib.resources", "urllib.parse"),
}


def modules_after(code: str) -> set[str]:
    code = f"{code}\nimport sys; print('modules:\\n' + '\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    return set(done.stdout.partition("modules:\n")[2].split())


def run_cli(arguments: str) -> str:
    return f"""
import sys
from omnimemory.cli import main
sys.argv = ["omnimemory", *{arguments!r}.split()]
try:
    main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize("arguments", ["--help", "--version", ""])
def test_the_front_door_imports_click_and_nothing_else(arguments):
    loaded = modules_after(run_cli(arguments))
    click_alone = modules_after("import click, sys; click.Group('x').main(['--help'], standalone_mode=False)")
    assert not loaded & HEAVY
    assert {name for name in loaded if name.startswith("omnimemory")} <= {"omnimemory", "omnimemory.cli"}
    assert loaded - click_alone <= {"gc", "signal", "omnimemory", "omnimemory.cli"}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_needs_nothing_heavy_either(command):
    loaded = modules_after(run_cli(f"{command} --help"))
    assert not loaded & {"numpy", "chromadb", "rich", "httpx", "sqlite3", "platformdirs", "tokenizers"}
    ours = {name for name in loaded if name.startswith("omnimemory.") and not name.startswith("omnimemory.cli")}
    assert not ours


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_tells_the_truth_about_each_command(name):
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert command.short_help == COMMANDS[name][1]
    assert len(command.short_help) <= 60


def every_command() -> dict[str, click.Command]:
    found: dict[str, click.Command] = {"": cli}
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}": sub for inner, sub in command.commands.items()}
    return found


@pytest.mark.parametrize("name", every_command())
def test_every_help_has_examples_of_that_very_command_and_fits_80_columns(name):
    done = CliRunner().invoke(cli, [*name.split(), "--help"], terminal_width=80)
    assert done.exit_code == 0
    _, _, shown = done.stdout.partition("Example")
    lines = [line for line in shown.splitlines()[1:] if line.strip()]
    assert lines
    assert all("omnimemory" in line and line.startswith("    ") for line in lines)
    if name:
        assert any(
            name in line.replace("--store ~/work.mem ", "").replace("--store /tmp/demo.mem ", "") for line in lines
        )
    assert max(map(len, done.stdout.splitlines())) <= 80


SCRIPTS = {"", "completion", "hook"}  # these print no results


@pytest.mark.parametrize("name", [name for name in every_command() if name not in SCRIPTS])
def test_every_command_that_prints_results_knows_json(name):
    command = every_command()[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options or name in {"cache", "eval", "models", "schedule"}  # each of theirs has it


def test_every_option_is_explained():
    for command in every_command().values():
        for parameter in command.params:
            assert isinstance(parameter, click.Argument) or parameter.help


def test_the_version_is_that_of_the_package():
    assert CliRunner().invoke(cli, ["--version"]).stdout == f"omnimemory {omnimemory.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serch", "x"], "Did you mean 'search'?"),
        (["zzz"], "There is no command 'zzz'."),
        (["--nothing"], "No such option"),
        (["search"], "Missing argument 'QUERY"),
        (["search", " ", ""], "the query is empty"),
        (["search", "x", "-k", "0"], "-k"),
        (["search", "x", "-k", "ten"], "-k"),
        (["search", "x", "--kind", "files"], "documents"),
        (["search", "x", "--mode", "fast"], "hybrid"),
        (["search", "x", "--min-score", "2"], "--min-score"),
        (["search", "x", "--where", "{"], "is not JSON"),
        (["search", "x", "--where", "[1]"], "must be a JSON object"),
        (["search", "x", "--where", "[" * 100_000], "is not JSON"),
        (["ingest"], "Missing argument 'PATH"),
        (["ingest", ".", "--no-prune", "--prune-all"], "contradict"),
        (["ingest-history", "--shell", "ksh"], "bash"),
        (["add"], "Missing argument 'TEXT"),
        (["add", " "], "must not be empty"),
        (["add", "a", "b", "--id", "1"], "2 texts need 2 --id options"),
        (["add", "a", "--meta", "topic"], "is not KEY=VALUE"),
        (["add", "a", "--meta", "=x"], "is not KEY=VALUE"),
        (["add", "a", "--meta", ":=1"], "is not KEY=VALUE"),
        (["add", "a", "--meta", "n:=x"], "is not JSON"),
        (["add", "-", "-"], "only once"),
        (["cache", "nothing"], "No such command"),
        (["config", "get"], "Missing argument 'KEY'"),
        (["completion", "tcsh"], "bash"),
    ],
)
def test_wrong_use_is_explained_and_exits_with_2(arguments, message, tmp_path):
    done = CliRunner(env={"OMNIMEMORY_STORE": str(tmp_path / "store")}).invoke(cli, arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not done.stdout
    assert not (tmp_path / "store").exists(), "nothing is opened for a command that cannot run"


def raising(error: BaseException) -> click.Group:
    @click.group(cls=LazyGroup)
    def group() -> None:
        raise error

    return group


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("a: b"), 2, "Error: a: b"),
        (SourceError("no file"), 1, "Error: no file"),
        (ModelServerError("down"), 69, "Error: down"),
        (StoreBusyError("busy"), 75, "Error: busy"),
        (StoreFullError("full"), 74, "Error: full"),
        (OmniMemoryError("some"), 1, "Error: some"),
        (SourceError("\x1b[31m\u202e\nx"), 1, r"Error: \x1b[31m\u202e x"),
        (RuntimeError("a bug"), 1, "Error: RuntimeError: a bug (OMNIMEMORY_DEBUG=1 shows where)"),
        (MemoryError(), 1, "Error: MemoryError: (OMNIMEMORY_DEBUG=1 shows where)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_one_line_and_its_own_exit_code(error, code, text):
    done = CliRunner(env={"OMNIMEMORY_DEBUG": None}).invoke(raising(error), ["config"])
    assert (done.exit_code, done.stderr, done.stdout) == (code, text + "\n", "")


def test_a_traceback_is_shown_on_request_only():
    done = CliRunner(env={"OMNIMEMORY_DEBUG": "1"}).invoke(raising(SourceError("no file")), ["config"])
    assert done.exit_code == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("Error: no file\n")


@pytest.mark.parametrize(
    ("command", "said"),
    [("ingest", "stopped; what was committed is kept, run again to continue"), ("search", "stopped")],
)
def test_an_interrupt_ends_with_130_and_says_what_is_kept(command, said):
    @click.group(cls=LazyGroup)
    @click.pass_context
    def group(ctx: click.Context) -> None:
        ctx.invoked_subcommand = command
        raise KeyboardInterrupt

    done = CliRunner().invoke(group, [command, "x"])
    assert (done.exit_code, done.stderr.strip()) == (130, said)


def test_python_m_is_the_same_program():
    done = subprocess.run([sys.executable, "-m", "omnimemory", "--version"], check=True, capture_output=True, text=True)
    assert done.stdout == f"omnimemory {omnimemory.__version__}\n"


def test_a_closed_pipe_is_no_error(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "omnimemory", "config", "--json"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_text_that_the_terminal_cannot_show_does_not_stop_the_command(tmp_path):
    (tmp_path / "日本").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "omnimemory", "config", "get", "store.path"],
        env={**os.environ, "OMNIMEMORY_STORE": str(tmp_path / "日本"), "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == str(tmp_path / "日本").encode("ascii", "backslashreplace")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell):
    named = CliRunner().invoke(cli, ["completion", shell])
    detected = CliRunner(env={"SHELL": f"/usr/bin/{shell}"}).invoke(cli, ["completion"])
    assert named.exit_code == 0
    assert "_OMNIMEMORY_COMPLETE" in named.stdout
    assert detected.stdout == named.stdout


def test_completion_asks_when_the_shell_is_unknown():
    done = CliRunner(env={"SHELL": "/bin/tcsh"}).invoke(cli, ["completion"])
    assert done.exit_code == 2
    assert "which shell?" in done.stderr


def complete(words: str) -> set[str]:
    count = len(words.split()) if words.endswith(" ") else len(words.split()) - 1
    variables = {"_OMNIMEMORY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    done = subprocess.run(
        [sys.executable, "-c", "from omnimemory.cli import main; main()"],
        env={**os.environ, **variables},
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return {line.split(",", 1)[1] for line in done.stdout.splitlines()}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("omnimemory ing", {"ingest", "ingest-history"}),
        ("omnimemory cache ", {"stats", "clear"}),
        ("omnimemory ingest-history --shell z", {"zsh"}),
        ("omnimemory search x --kind d", {"documents"}),
        ("omnimemory search x --mode ", {"hybrid", "vector", "keyword"}),
        ("omnimemory completion f", {"fish"}),
        ("omnimemory config get chunking.", {"chunking.size", "chunking.overlap"}),
    ],
)
def test_words_are_completed(words, expected):
    assert complete(words) == expected


def test_each_command_module_exists():
    for home, _ in COMMANDS.values():
        module, _, name = home.partition(":")
        assert isinstance(getattr(importlib.import_module(module), name), click.Command)


@pytest.mark.parametrize(("own", "used"), [(None, "1"), ("3", "3")], ids=["as it is", "the user's own"])
def test_numpy_computes_in_one_thread_unless_told_otherwise_and_ending_costs_no_collection(
    tmp_path, monkeypatch, own, used
):
    monkeypatch.setenv("OMNIMEMORY_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if own:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", own)
    script = (
        "import gc, os, sys; from omnimemory.cli import main; sys.argv = ['omnimemory', 'status', '--json']\n"
        "try: main()\n"
        "except SystemExit: print(os.environ['OPENBLAS_NUM_THREADS'], gc.get_freeze_count() > 10_000)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{used} True"
