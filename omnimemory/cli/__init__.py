"""The command line: a thin face of :class:`omnimemory.memory.Memory`.

``omnimemory --help`` imports click and this file and nothing else: the table below names each command, the module
that holds it and its one-line help; the module is imported when its command runs.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import signal
import sys
from typing import Any

import click

import omnimemory

__all__ = ["COMMANDS", "LazyGroup", "cli", "main"]

COMMANDS = {
    "ingest": ("omnimemory.cli.ingest:ingest", "Read files and folders into the memory."),
    "ingest-history": ("omnimemory.cli.ingest:ingest_history", "Read shell history into the memory."),
    "add": ("omnimemory.cli.ingest:add", "Store short notes."),
    "search": ("omnimemory.cli.search:search", "Find documents and commands by meaning."),
    "next": ("omnimemory.cli.next:next_command", "Say which command probably comes next."),
    "record": ("omnimemory.cli.record:record", "Remember that a command was run."),
    "hook": ("omnimemory.cli.record:hook", "Print what makes your shell write down each command."),
    "sessions": ("omnimemory.cli.recall:sessions", "Find where something like this was done before."),
    "steps": ("omnimemory.cli.recall:steps", "Find steps like one, from a command to the next."),
    "workflows": ("omnimemory.cli.recall:workflows", "Show the routines in what you run."),
    "why-failed": ("omnimemory.cli.recall:why_failed", "Say what helped when a command failed before."),
    "status": ("omnimemory.cli.status:status", "Show what the memory holds and where it is."),
    "forget": ("omnimemory.cli.forget:forget", "Forget documents and commands for good."),
    "redact": ("omnimemory.cli.redact:redact", "Show what would be taken out of a text, and by which rule."),
    "scrub": ("omnimemory.cli.forget:scrub", "Redact again what is stored, with the rules of today."),
    "cache": ("omnimemory.cli.status:cache", "Look at the cache of vectors, or empty it."),
    "models": ("omnimemory.cli.models:models", "Show the embedding models, fetch, load or delete one."),
    "schedule": ("omnimemory.cli.schedule:schedule", "Show what the scheduler decided, and why."),
    "export": ("omnimemory.cli.transfer:export", "Write everything remembered as JSON Lines."),
    "import": ("omnimemory.cli.transfer:import_", "Read an export into the memory."),
    "reembed": ("omnimemory.cli.reembed:reembed", "Move the memory to another embedding model."),
    "backup": ("omnimemory.cli.transfer:backup", "Copy the memory while it is used."),
    "doctor": ("omnimemory.cli.care:doctor", "Say what is wrong with the memory, and what to do."),
    "repair": ("omnimemory.cli.care:repair", "Mend the memory without embedding anything again."),
    "maintain": ("omnimemory.cli.care:maintain", "Give back room that is not needed any more."),
    "eval": ("omnimemory.cli.evaluation:evaluation", "Measure predictions and searches on data of your own."),
    "config": ("omnimemory.cli.settings:config", "Show the settings and where each came from."),
    "demo": ("omnimemory.cli.demo:demo", "Try it all on bundled samples."),
    "completion": ("omnimemory.cli.completion:completion", "Print the script that completes commands in your shell."),
}
_WRITING = ("ingest", "ingest-history", "add", "record", "import", "forget", "scrub", "demo", "reembed")


class LazyGroup(click.Group):
    """A group that imports a command when it is run, and the one place that turns errors into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands in the order a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that ``args`` begin with; name the nearest one when there is none."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib  # noqa: PLC0415 - only an error needs it

            close = difflib.get_close_matches(name, COMMANDS, 1)
            ctx.fail(f"There is no command {name!r}." + (f" Did you mean {close[0]!r}?" if close else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the list of commands from the table, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what goes wrong becomes one line on standard error and an exit code."""
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
        except (KeyboardInterrupt, SystemExit) as end:
            code = 128 + signal.SIGINT if isinstance(end, KeyboardInterrupt) else end.code
            if not isinstance(code, int) or code <= 128:
                raise
            kept = ctx.invoked_subcommand in _WRITING
            click.echo("\nstopped" + ("; what was committed is kept, run again to continue" * kept), err=True)
            ctx.exit(code)
        except BrokenPipeError:
            _forget_output()
            ctx.exit(128 + signal.SIGPIPE)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # noqa: BLE001 - the outermost place: nothing may end in a raw traceback
            ctx.exit(_tell(error))
        return result


def _tell(error: Exception) -> int:
    from omnimemory.cli.output import visible  # noqa: PLC0415 - only an error needs it
    from omnimemory.errors import OmniMemoryError, StoreFullError  # noqa: PLC0415 - as above

    if os.environ.get("OMNIMEMORY_DEBUG"):
        import traceback  # noqa: PLC0415 - only on request

        click.echo(visible("".join(traceback.format_exception(error))), err=True)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename:
        # What a store writes is told as an error of ours; this can only be what the command prints.
        _forget_output()
        error = StoreFullError("The disk that the output goes to is full. Free some space and run it again.")
    text = (
        str(error)
        if isinstance(error, OmniMemoryError)
        else f"{type(error).__name__}: {error} (OMNIMEMORY_DEBUG=1 shows where)"
    )
    click.echo(f"Error: {visible(text, multiline=False)}", err=True)
    return error.exit_code if isinstance(error, OmniMemoryError) else 1


def _forget_output() -> None:
    # The interpreter flushes standard output once more when it ends, and would complain about the closed pipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_EXAMPLES = """\b
Examples:
  omnimemory demo
  omnimemory ingest ~/notes README.md
  omnimemory ingest-history
  omnimemory search undo the last commit
"""


@click.group(cls=LazyGroup, epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--store", type=click.Path(), metavar="PATH", help="Folder of the memory to use.")
@click.version_option(omnimemory.__version__, message="omnimemory %(version)s")
def cli(store: str | None) -> None:  # `store` is read by the commands from the context
    """Keep documents and shell history in a memory on this machine, and search it by meaning."""


def main() -> None:
    """Run the command line; the entry point of the ``omnimemory`` command."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as of nohup, or of a shell that starts it in the background
            signal.signal(number, _stop)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a terminal cannot show must not stop the rest
            stream.reconfigure(errors="backslashreplace")
    # A scan waits for memory, not for arithmetic: numpy's other threads only spin (a fifth of a search's CPU seconds).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        cli(prog_name="omnimemory")
    finally:
        gc.freeze()  # the interpreter would look through all objects for cycles before it ends (20 of 260 ms)


def _stop(number: int, frame: object) -> None:  # noqa: ARG001 - Python calls it so
    """Unwind like an error, so that the store is closed; a second signal ends the process at once, which is safe."""
    for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(again) is _stop:
            signal.signal(again, signal.SIG_DFL)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
