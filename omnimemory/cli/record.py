"""``record`` and ``hook``: what is run, written down as it is run."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from omnimemory.cli.opening import current_settings, open_memory
from omnimemory.cli.options import examples, folder_meant, json_option
from omnimemory.cli.output import note, print_json, wants_json

__all__ = ["hook", "record"]

_SHELLS = ("bash", "zsh", "fish")


@click.command(
    short_help="Remember that a command was run.",
    epilog=examples(
        'omnimemory record "make test" --exit-code 2 --cwd ~/api',
        'omnimemory record "pytest -x" --exit-code 0 --duration 12.5 --session a7',
    ),
)
@click.argument("command")
@click.option("--exit-code", type=click.IntRange(-(2**31), 2**32 - 1), help="How it ended; 0 is success.")
@click.option("--cwd", type=click.Path(path_type=Path), help="Where it ran; the current folder when omitted.")
@click.option("--duration", type=click.FloatRange(0), metavar="SECONDS", help="How long it took.")
@click.option("--timestamp", type=click.FloatRange(0, 253_402_300_799), help="When it began; now when omitted.")
@click.option("--session", help="Commands of one session follow one another.")
@click.option("--host", help="Which machine it ran on.")
@click.option("--shell", default="record", show_default=True, help="Which shell or tool ran it.")
@json_option
def record(
    *,
    command: str,
    exit_code: int | None,
    cwd: Path | None,
    duration: float | None,
    timestamp: float | None,
    session: str | None,
    host: str | None,
    shell: str,
    as_json: bool,
) -> None:
    """Remember that COMMAND was run, for agents and tools. Passwords and tokens are taken out first."""
    if not command.strip():
        raise click.UsageError("the command is empty.")
    with open_memory() as memory:
        found = memory.record(
            command,
            exit_code,
            folder_meant(cwd),
            duration=duration,
            timestamp=timestamp,
            session=session,
            host=host,
            shell=shell,
        )
    if wants_json(as_json):
        print_json({"id": found})
    if found is None:
        note("left out: it begins with a space, says what to forget, or was forgotten before")


@click.command(
    short_help="Print what makes your shell write down each command.",
    epilog=examples(
        "omnimemory hook zsh > ~/.omnimemory.zsh  # then: source it in ~/.zshrc",
        "omnimemory hook bash > ~/.omnimemory.bash  # then: source it in ~/.bashrc",
        "omnimemory hook fish > ~/.config/fish/conf.d/omnimemory.fish",
    ),
)
@click.argument("shell", required=False, type=click.Choice(_SHELLS))
def hook(shell: str | None) -> None:
    """Print what makes your shell write down each command with its folder, exit code and time as it ends.

    SHELL is that of $SHELL when omitted. The next search, next or ingest-history reads what was written. Ctrl-X Ctrl-N
    (or $OMNIMEMORY_KEY) offers the next command, or on a line with text, commands that mean the same. It runs nothing.
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in _SHELLS:
        raise click.UsageError(f"which shell? Say one of {', '.join(_SHELLS)}.")
    from omnimemory.sources.spool_folder import spool_folder  # noqa: PLC0415 - keeps `--help` light

    store = current_settings().store.path.absolute()
    chosen = click.get_current_context().find_root().params.get("store")
    program = ["command", "omnimemory", *(["--store", str(store)] if chosen else [])]
    quote = _fish_quoted if name == "fish" else shlex.quote
    script = (Path(__file__).parent / "hooks" / f"omnimemory.{name}").read_text("utf-8")
    script = script.replace("@SPOOL@", quote(str(spool_folder(store))))
    click.echo(script.replace("@PROGRAM@", " ".join(quote(word) for word in program)), nl=False)


def _fish_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
