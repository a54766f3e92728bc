"""The documentation is true: README examples run, every command and every public name is told."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import omnimemory

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a folder with the things the examples speak of."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "deploy.md").write_text("# Deploy\n\nTag the release, then run the pipeline.\n")
    (tmp_path / "README.md").write_text("# A project\n\nIt does things.\n")
    steps = [f'{{"command": "{command}", "session": "{day}"}}\n' for day in "ab" for command in ("make", "make test")]
    (tmp_path / "steps.jsonl").write_text("".join(steps))
    (tmp_path / "questions.tsv").write_text("undo the last commit\tgit reset --soft HEAD~1\nlist files\tls -l\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".bash_history").write_text("git status\ngit reset --soft HEAD~1\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: list[str], project: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        command,
        cwd=project,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_examples_run(number, project):
    done = run([sys.executable, "-W", "error", "-c", "\n".join(blocks("python")[: number + 1])], project)
    assert done.returncode == 0, done.stderr


CONSOLE = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]


def test_console_examples_run_in_order(project):
    assert CONSOLE
    for line in CONSOLE:
        words = shlex.split(line)
        assert words[0] == "omnimemory", line
        done = run([sys.executable, "-m", *words], project)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def test_the_readme_opens_with_the_two_commands():
    first, second = blocks("sh")[:2]
    assert first.strip().endswith("omnimemory demo")
    assert second.strip().endswith("python -m pytest -n auto")
    assert len(first.strip().splitlines()) == len(second.strip().splitlines()) == 1


def test_every_command_is_told_in_the_readme():
    from omnimemory.cli import cli

    context = cli.make_context("omnimemory", [], resilient_parsing=True)
    for name in cli.list_commands(context):
        assert f"omnimemory {name}" in README, name


def test_every_public_name_is_told_in_the_readme():
    for name in omnimemory.__all__:
        if name != "__version__":
            assert re.search(rf"\b{name}\b", README), name


def test_every_setting_is_told_in_the_readme():
    from omnimemory.config import SPECS

    for key in SPECS:
        assert f"`{key}`" in README, key


def test_the_changelog_knows_this_version_or_says_unreleased():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "[Unreleased]" in changelog or f"[{omnimemory.__version__}]" in changelog
