"""Which files a walk passes over: our own list, ignore files, and the caller's patterns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from folder_cases import DEFAULT, failures, make, names

from omnimemory.errors import ConfigError
from omnimemory.records import Failure
from omnimemory.sources.documents import Found, Limits, walk

IGNORED = {
    "hidden": (".hidden.txt", ".config/a.txt"),
    "version control": (".git/config", ".svn/entries"),
    "other people's code": ("node_modules/x/readme.md", "lib/site-packages/a.py"),
    "caches": ("__pycache__/a.txt", "pkg.egg-info/PKG-INFO"),
    "compiled": ("a.pyc", "b.o", "libc.so"),
    "locks": ("package-lock.json", "Cargo.lock", "uv.lock"),
    "minified": ("jquery.min.js", "a.css.map"),
    "left by editors": ("notes.txt~", "x.swp"),
    "tagged caches": ("cachy/CACHEDIR.TAG", "cachy/a.txt"),
    "environments": ("env/pyvenv.cfg", "env/lib/a.py"),
    "build products": ("proj/pyproject.toml", "proj/build/lib/a.py", "proj/dist/a.txt"),
}


@pytest.mark.parametrize("files", IGNORED.values(), ids=IGNORED)
def test_what_nobody_searches_is_passed_over_in_silence(tmp_path, files):
    make(tmp_path, "kept.txt", *files)
    items = list(walk(tmp_path, DEFAULT))
    kept = {Path(item.uri).name for item in items if isinstance(item, Found)}
    assert kept - {"pyproject.toml"} == {"kept.txt"}
    assert not [item for item in items if isinstance(item, Failure)]


def test_a_folder_of_notes_may_be_called_build(tmp_path):
    make(tmp_path, "build/garden-shed.md", "target/goals.md", "dist/shops.txt")
    assert names(tmp_path) == ["build/garden-shed.md", "dist/shops.txt", "target/goals.md"]


def test_hidden_files_are_taken_when_asked_for_but_never_git(tmp_path):
    make(tmp_path, ".hidden.txt", ".config/a.txt", ".git/config")
    assert names(tmp_path, Limits(hidden=True)) == [".config/a.txt", ".hidden.txt"]


def test_gitignore_files_nest_and_negate(tmp_path):
    make(
        tmp_path, "a.log", "keep.log", "sub/b.log", "sub/deep/c.log", "sub/deep/d.txt", "out.txt", "sub/out.txt", "x/y"
    )
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n/out.txt\nx/\n# a comment\n\n")
    (tmp_path / "sub/.gitignore").write_text("!b.log\ndeep/*.txt\n")
    assert names(tmp_path) == ["keep.log", "sub/b.log", "sub/out.txt"]
    assert "a.log" in names(tmp_path, Limits(gitignore=False))


def test_our_own_ignore_file_is_heard_after_git_s_and_without_it(tmp_path):
    make(tmp_path, "a.log", "b.txt", "c.md")
    (tmp_path / ".gitignore").write_text("*.log\nc.md\n")
    (tmp_path / ".omnimemoryignore").write_text("!a.log\nb.txt\n")
    assert names(tmp_path) == ["a.log"]
    assert names(tmp_path, Limits(gitignore=False)) == ["a.log", "c.md"]


def test_rules_of_the_repository_around_the_root_apply_but_not_to_the_root(tmp_path):
    make(tmp_path, "repo/.git/config", "repo/src/gen/a.txt", "repo/src/b.tmpl", "repo/src/c.txt", "repo/out/d.txt")
    (tmp_path / ".gitignore").write_text("c.txt\n")  # outside of the repository
    (tmp_path / "repo/.gitignore").write_text("*.tmpl\nout/\n/src/gen/\n")
    assert names(tmp_path / "repo/src") == ["c.txt"]
    assert names(tmp_path / "repo/out") == ["d.txt"]


def test_malformed_lines_of_an_ignore_file_are_passed_over(tmp_path):
    make(tmp_path, "a.log", "b.txt")
    (tmp_path / ".gitignore").write_bytes(b"!\n\\\n*.log\n\xff\xfe\n")
    assert names(tmp_path) == ["b.txt"]


def test_an_ignore_file_that_is_not_a_file_is_reported_and_the_walk_goes_on(tmp_path):
    make(tmp_path, "a.txt")
    os.mkfifo(tmp_path / ".gitignore")
    assert names(tmp_path) == ["a.txt"]
    failure = failures(tmp_path)[".gitignore"]
    assert failure.error
    assert "its rules are not applied" in failure.reason


def test_include_and_exclude_are_patterns_relative_to_the_root(tmp_path):
    make(tmp_path, "a.md", "b.txt", "docs/c.md", "docs/d.txt", "docs/old/e.md")
    assert names(tmp_path, Limits(include=("*.md",))) == ["a.md", "docs/c.md", "docs/old/e.md"]
    assert names(tmp_path, Limits(include=("docs/",))) == ["docs/c.md", "docs/d.txt", "docs/old/e.md"]
    assert names(tmp_path, Limits(exclude=("old/", "/a.md"))) == ["b.txt", "docs/c.md", "docs/d.txt"]
    assert names(tmp_path, Limits(include=("*.md",), exclude=("docs/*", "!docs/c.md"))) == ["a.md", "docs/c.md"]


@pytest.mark.parametrize("pattern", ["", "  ", "!", "# x", "\\"])
def test_a_malformed_pattern_is_an_error_before_the_walk_begins(tmp_path, pattern):
    with pytest.raises(ConfigError, match=r"write it as in a \.gitignore"):
        walk(tmp_path, Limits(exclude=(pattern,)))


def test_pathspec_is_imported_only_where_there_are_patterns(tmp_path):
    make(tmp_path, "a.txt")
    program = (
        "import sys\nfrom pathlib import Path\nfrom omnimemory.sources.documents import Limits, walk, read\n"
        f"[read(item, Limits()) for item in walk(Path({str(tmp_path)!r}), Limits())]\n"
        "print(sorted({'pathspec', 'charset_normalizer', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
