"""A generated zsh history with realistic repetition, the same for the same seed.

Each line is a new command with a fixed probability, and otherwise one that was typed before: recently, or
any earlier line, all equally likely. That is Simon's process ("On a class of skew distribution functions",
Biometrika 42, 1955), whose frequencies follow Zipf's law: few commands make most of the lines.

The format is zsh's extended one: ``: start:seconds;command``, a newline in a command written as backslash
and newline, and bytes that zsh uses for itself written as 0x83 and the byte xor 32 (Src/hist.c, Src/utils.c).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

__all__ = ["NEW", "commands", "entry", "write_history"]

NEW = 0.15
"""Share of lines that hold a command never typed before."""

_RECENT, _RECENT_LINES = 0.35, 40
_FIRST_SECOND = 1_600_000_000

_USUAL = """ls|git status|cd ..|ll|git diff|ls -la|cd -|cd|pwd|clear|git add .|git add -p|git push|git pull|make
git log --oneline|git stash|git stash pop|make test|make clean|docker ps|docker compose up -d|htop|df -h|exit|history
vim .|code .|python3|pytest|npm test|npm run build|cargo build|cargo test|kubectl get pods|top|free -m|ip a|jobs|fg"""
_NEW = (
    "git commit -m '{verb} the {word} of the {word}'",
    "git commit --amend -m '{verb} {word} {number}'",
    "git checkout -b {word}/{verb}-{word}-{number}",
    "git diff HEAD~{small} -- {path}",
    "git log --oneline --since={small}.weeks -- {path}",
    "git rebase -i HEAD~{small} --exec 'make {word}'",
    "vim {path}",
    "vim +{number} {path}",
    "less {path}",
    "cat {path} | grep -n {word}",
    "grep -rn '{word}_{word}' {folder} --include='*.{ending}'",
    "find {folder} -name '*{word}*.{ending}' -mtime -{small} -print0 | xargs -0 wc -l",
    "mv {path} {path}",
    "cp -r {folder} /tmp/{word}-{number}",
    "rm -f {path}",
    "mkdir -p {folder}/{word}",
    "cd {folder}",
    "tar czf {word}-{number}.tar.gz {folder}",
    "rsync -avz --delete {folder}/ {host}:/srv/{word}/",
    "scp {path} {host}:{path}",
    "ssh {host} 'sudo systemctl restart {word}'",
    "ssh -L {number}:localhost:{number} {host}",
    "journalctl -u {word} --since '{small} hours ago' | tail -{number}",
    "python3 {path} --{word} {number} --out {path}",
    "pytest {folder}/test_{word}.py -k {word} -x",
    "pip install {word}-{word}=={small}.{small}.{number}",
    "docker run --rm -it -v $PWD:/src -p {number}:{number} {word}:{small}.{small} bash",
    "docker logs -f --tail {number} {word}-{word}",
    "docker build -t {word}/{word}:{number} -f {path} .",
    "kubectl -n {word} logs deploy/{word}-{word} --since={small}m",
    "kubectl -n {word} scale deploy/{word} --replicas={small}",
    "curl -s http://localhost:{number}/{word}/{word}?limit={small} | jq '.{word}[{small}]'",
    "sed -i 's/{word}_{word}/{word}/g' {path}",
    "awk -F, '${small} > {number} {{ print ${small} }}' {path} | sort | uniq -c | sort -rn | head",
    "ffmpeg -i {word}.mp4 -ss 00:0{small}:00 -t {number} {word}-{number}.mp4",
    "psql -d {word} -c 'select {word}, count(*) from {word}_{word} group by 1 limit {number}'",
    "chmod 644 {path}",
    "for f in {folder}/*.{ending}; do\n  echo $f\n  {word} --{word} $f\ndone",
    "cat > {path} <<'END'\n{word} = {number}\n{word} = {word}\nEND",
    "echo 'Grüße aus {word}: {number} °C' >> {path}",
    "make {word} {word}=${{HOME}}/{word} \\\n  -j {small}",
)
_WORDS = """api web auth billing search worker cache queue parser loader index report backup deploy config metrics
tests fixtures schema models views routes handlers client server proxy gateway users orders invoices payments
catalog ingest export import sync batch stream events audit session notes docs assets theme layout build release"""
_VERBS = "fix add remove rename move update refactor test document simplify revert speed-up merge split"
_FOLDERS = "src lib app tests docs scripts deploy ~/notes ~/projects/site /var/log /etc/nginx ~/Downloads"
_HOSTS = "web1 web2 db1 staging build.internal backup-host pi@lab.local"
_ENDINGS = "py md ts go rs sql yaml json log txt sh"
_LISTS = {
    name: words.split()
    for name, words in {"word": _WORDS, "verb": _VERBS, "top": _FOLDERS, "host": _HOSTS, "ending": _ENDINGS}.items()
}


class _Fields:
    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def __getitem__(self, kind: str) -> str:
        match kind:
            case "number":
                return str(self._dice.randint(10, 9999))
            case "small":
                return str(self._dice.randint(1, 9))
            case "folder":
                return self["top"] if self._dice.random() < 0.3 else f"{self['top']}/{self['word']}"
            case "path":
                return f"{self['folder']}/{self['word']}_{self['word']}.{self['ending']}"
        return self._dice.choice(_LISTS[kind])


def commands(lines: int, seed: int = 1, *, new: float = NEW) -> Iterator[str]:
    """Yield so many commands; a share of about ``new`` of them are distinct."""
    dice = random.Random(seed)
    usual = _USUAL.replace("\n", "|").split("|")
    # What everybody types all day has been typed before: otherwise the first new commands would take its place.
    typed = [command for rank, command in enumerate(usual, 1) for _ in range(1 + 300 // rank)]
    seen = set(usual)
    for _ in range(lines):
        draw = dice.random()
        if draw < new:
            command = _unseen(dice, seen)
        elif draw < new + _RECENT * (1 - new):
            command = dice.choice(typed[-_RECENT_LINES:])
        else:
            command = dice.choice(typed)
        typed.append(command)
        yield command


def _unseen(dice: random.Random, seen: set[str]) -> str:
    fields = _Fields(dice)
    while True:
        command = dice.choice(_NEW).format_map(fields)
        if command not in seen:
            seen.add(command)
            return command


def write_history(path: Path, lines: int, seed: int = 1, *, new: float = NEW) -> None:
    """Write a zsh history of so many events."""
    dice = random.Random(seed)
    second = _FIRST_SECOND
    with path.open("wb") as file:
        for command in commands(lines, seed, new=new):
            second += int(dice.expovariate(1 / 40)) if dice.random() < 0.97 else dice.randint(1_800, 60_000)
            took = 0 if dice.random() < 0.8 else int(dice.expovariate(1 / 30))
            file.write(entry(command, second, took))
            second += took


def entry(command: str, second: int, took: int = 0) -> bytes:
    """Return an event as a line (or lines) of the history; ``second`` since the epoch."""
    text = command.replace("\n", "\\\n")
    if text.endswith("\\"):
        text += " "
    return b": %d:%d;%s\n" % (second, took, _metafied(text.encode()))


def _metafied(data: bytes) -> bytes:
    if data.isascii() and b"\0" not in data:
        return data
    return b"".join(bytes((0x83, byte ^ 32)) if byte == 0 or 0x83 <= byte <= 0xA2 else bytes((byte,)) for byte in data)
