"""Commands that run other commands: where the inner command starts.

``sudo -u app mysql ...``, ``env A=1 nice -n 5 mysql ...``, ``ssh host mysql ...``, ``docker exec db mysql ...``:
the table of flags is about ``mysql``, which must be in command position to count.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["command_name", "inner_command", "is_assignment"]


@dataclass(frozen=True, slots=True)
class Wrapper:
    """A command whose arguments are a command line: its flags that take a value, its own arguments before it."""

    value_flags: frozenset[str] = frozenset()
    arguments: int = 0


def wrapper(letters: str = "", arguments: int = 0, words: str = "") -> Wrapper:
    """Make a wrapper whose one-letter flags in ``letters`` and long ones in ``words`` take a value."""
    return Wrapper(frozenset([f"-{letter}" for letter in letters] + words.split()), arguments)


PLAIN = wrapper()
PREFIXES = (
    "nohup", "setsid", "command", "builtin", "eval", "torsocks", "tsocks", "caffeinate", "unbuffer", "rlwrap",
    "busybox", "noglob", "nocorrect", "chronic", "systemd-cat", "dbus-run-session", "fakeroot", "gdb", "valgrind",
    "sh", "bash", "zsh", "dash", "ash", "ksh", "fish",
)  # fmt: skip
WRAPPERS = {
    **dict.fromkeys(PREFIXES, PLAIN),
    "sudo": wrapper("ugpCThrtDRU", words="--user --group --prompt --host --chdir"),
    "doas": wrapper("uC"),
    "env": wrapper("uSC", words="--unset --chdir"),
    "time": wrapper("fo"),
    "exec": wrapper("a"),
    "timeout": wrapper("ks", 1, "--signal --kill-after"),
    "nice": wrapper("n"),
    "ionice": wrapper("cnpt"),
    "stdbuf": wrapper("ioe"),
    "xargs": wrapper("IELnPsdai", words="--max-args --max-procs --delimiter --arg-file"),
    "parallel": wrapper("jN"),
    "watch": wrapper("n"),
    "strace": wrapper("eopsPEuS"),
    "chroot": wrapper("", 1),
    "flock": wrapper("wE", 1),
    "gosu": wrapper("", 1),
    "su-exec": wrapper("", 1),
    "runuser": wrapper("ugs"),
    "proxychains": wrapper("f"),
    "proxychains4": wrapper("f"),
    "ssh": wrapper("bcDEeFIiJLlmOopQRSWwB", 1),
    "mosh": wrapper("p", 1),
    "autossh": wrapper("MbcDEeFIiJLlmOopQRSWwB", 1),
    "sshpass": wrapper("pfdP"),
    "faketime": wrapper("f", 1),
    "taskset": wrapper("", 1),
    "systemd-run": wrapper("pEuM"),
}
# Anywhere among their arguments a known command may start: containers, environments, build tools.
CARRIERS = frozenset({
    "docker", "podman", "nerdctl", "docker-compose", "podman-compose", "kubectl", "oc", "k", "lxc", "incus",
    "vagrant", "poetry", "pipenv", "uv", "npx", "bunx", "pnpm", "yarn", "bundle", "nix", "nix-shell", "flatpak",
    "toolbox", "distrobox", "find", "fd", "heroku", "fly", "flyctl", "ddev", "lando", "op", "doppler", "aws-vault",
    "chamber", "dotenv", "direnv", "java", "python", "python3", "php", "wsl", "multipass", "limactl", "colima",
    "ansible", "conda", "mamba", "rye", "hatch", "make", "screen", "tmux", "entr", "systemd-nspawn", "machinectl",
    "nsenter", "ip", "unshare", "firejail", "bwrap", "crontab", "at", "for",
})  # fmt: skip

RUNNERS = frozenset({"npx", "bunx", "java", "python", "python3", "php", "op", "with"})  # have no sub-command before it
SWITCHES = frozenset({
    "-i", "-t", "-it", "-ti", "-d", "-T", "-jar", "-m", "--rm", "-exec", "-execdir", "-ok", "-x", "-X", "-a", "-e",
    "--privileged", "--interactive", "--tty", "--detach",
})  # fmt: skip


@lru_cache(maxsize=4096)
def command_name(word: str) -> str:
    """Return the name of a command as the table knows it: no path, no ``.exe``, no escape or escaped quote."""
    if word.isalnum():
        return word
    name = word.lstrip("\\\"'").rsplit("/", 1)[-1].removesuffix(".exe")
    return name.rsplit("\\", 1)[-1]


def is_assignment(word: str) -> bool:
    """Say whether a word in command position is ``NAME=value``."""
    name, equals, _ = word.partition("=")
    return bool(equals) and name.removesuffix("+").isidentifier()


def inner_command(words: Sequence[str], known: Container[str]) -> int | None:
    """Return the index at which the command inside of ``words`` starts, ``None`` if it runs none."""
    name = command_name(words[0])
    found = WRAPPERS.get(name)
    if found is not None:
        return after_options(words, found)
    for index in range(1, len(words)):
        if words[index] == "--" and index + 1 < len(words):
            return index + 1
        if name in CARRIERS and index >= (1 if name in RUNNERS else 2) and command_name(words[index]) in known:
            before = words[index - 1]
            if before[:1] != "-" or "=" in before or before in SWITCHES:  # else it is the value of a flag
                return index
    return None


def after_options(words: Sequence[str], found: Wrapper) -> int | None:
    """Return the index of the first word that is neither an option of the wrapper nor its argument."""
    index, left = 1, found.arguments
    while index < len(words):
        word = words[index]
        if word == "--":
            index += 1
        elif word.startswith("-") and len(word) > 1:
            index += 2 if word in found.value_flags else 1
        elif is_assignment(word):
            index += 1
        elif left:
            left -= 1
            index += 1
        else:
            return index
    return None
