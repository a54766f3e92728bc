from __future__ import annotations

import os
from pathlib import Path

import pytest

from omnimemory.errors import ConfigError, SourceError
from omnimemory.sources.history import SHELLS, detect, locate, locate_all, shell_named


def make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("ls\n")
    return path


@pytest.mark.parametrize(
    ("head", "name", "shell"),
    [
        pytest.param(b"- cmd: ls\n  when: 5\n", "x", "fish", id="fish_by_content"),
        pytest.param(b": 1700000000:0;ls\n", "x", "zsh", id="zsh_by_content"),
        pytest.param(b"#1700000000\nls\n", "x", "bash", id="bash_by_content"),
        pytest.param(b"ls\n: 1700000000:0;ls\n", "bash_history", "zsh", id="content_outweighs_the_name"),
        pytest.param(b"ls\n", ".zsh_history", "zsh", id="zsh_by_name"),
        pytest.param(b"ls\n", ".zhistory", "zsh", id="zsh_by_its_other_name"),
        pytest.param(b"ls\n", "fish_history", "fish", id="fish_by_name"),
        pytest.param(b"ls\n", ".bash_history", "bash", id="bash_by_name"),
        pytest.param(b"Get-ChildItem -Force\n", "x", "powershell", id="powershell_by_content"),
        pytest.param(b"ls\n", "ConsoleHost_history.txt", "powershell", id="powershell_by_name"),
        pytest.param(b"def f [] {<\\n>  ls<\\n>}\n", "history.txt", "nushell", id="nushell_by_content"),
        pytest.param(b"ls\n", "history.txt", "bash", id="anything_else_is_one_command_a_line"),
        pytest.param(b"", "history.txt", "bash", id="empty"),
        pytest.param(
            b": 1:0;cat <<EOF\\\n#123\\\nEOF\n: 2:0;ls\n: 3:0;ls\n", "x", "zsh", id="most_lines_of_its_kind_decide"
        ),
    ],
)
def test_the_shell_is_detected_by_content_then_by_name(head, name, shell):
    assert detect(head, Path(name)) == shell


def test_an_unknown_shell_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'tcsh'.*bash, fish, ipython, jsonl, nushell, powershell, zsh"):
        shell_named("tcsh")
    with pytest.raises(ConfigError, match="bash, fish, ipython, jsonl, nushell, powershell, zsh"):
        locate(None, "tcsh", Path("/nowhere"), {})


@pytest.mark.parametrize(
    ("shell", "environ", "expected"),
    [
        pytest.param("bash", {}, [".bash_history"], id="bash"),
        pytest.param("bash", {"HISTFILE": "/h/.bash_eternal"}, ["/h/.bash_eternal", ".bash_history"], id="histfile"),
        pytest.param("bash", {"HISTFILE": "/h/.zsh_history"}, [".bash_history"], id="histfile_of_another_shell"),
        pytest.param(
            "bash", {"HISTFILE": "/h/hist", "SHELL": "/bin/bash"}, ["/h/hist", ".bash_history"], id="by_shell"
        ),
        pytest.param("bash", {"HISTFILE": "/h/hist", "SHELL": "/bin/zsh"}, [".bash_history"], id="not_by_shell"),
        pytest.param("bash", {"HISTFILE": "~/b/bash"}, ["b/bash", ".bash_history"], id="histfile_below_home"),
        pytest.param("zsh", {}, [".zsh_history", ".zhistory", ".histfile"], id="zsh"),
        pytest.param(
            "zsh",
            {"ZDOTDIR": "/z"},
            ["/z/.zsh_history", "/z/.zhistory", "/z/.histfile", ".zsh_history", ".zhistory", ".histfile"],
            id="zdotdir",
        ),
        pytest.param("zsh", {"HISTFILE": "/b/.bash_history"}, [".zsh_history", ".zhistory", ".histfile"], id="zsh_not"),
        pytest.param("fish", {}, [".local/share/fish/fish_history"], id="fish"),
        pytest.param(
            "fish",
            {"XDG_DATA_HOME": "/d", "HISTFILE": "/h/fish"},
            ["/d/fish/fish_history", ".local/share/fish/fish_history"],
            id="xdg_data_home_and_no_histfile",
        ),
    ],
)
def test_default_paths_follow_the_shells_own_variables(shell, environ, expected):
    home = Path("/home/me")
    assert SHELLS[shell].default_paths(home, environ) == [home / path for path in expected]


def test_default_paths_of_the_other_shells_and_tools():
    home = Path("/home/me")
    found = {name: shell_named(name).default_paths(home, {}) for name in ("powershell", "nushell", "atuin", "ipython")}
    assert {name: str(paths[0].relative_to(home)) for name, paths in found.items()} == {
        "powershell": ".local/share/powershell/PSReadLine/ConsoleHost_history.txt",
        "nushell": ".config/nushell/history.sqlite3",
        "atuin": ".local/share/atuin/history.db",
        "ipython": ".ipython/profile_default/history.sqlite",
    }
    elsewhere = {"APPDATA": "/a", "XDG_CONFIG_HOME": "/c", "ATUIN_DB_PATH": "/d/history.db", "IPYTHONDIR": "/i"}
    firsts = [str(shell_named(name).default_paths(home, elsewhere)[0]) for name in found]
    assert firsts == [
        "/a/Microsoft/Windows/PowerShell/PSReadLine/ConsoleHost_history.txt",
        "/c/nushell/history.sqlite3",
        "/d/history.db",
        "/i/profile_default/history.sqlite",
    ]


def test_all_histories_are_found_each_once_and_those_that_tell_most_first(tmp_path):
    atuin = make(tmp_path / ".local/share/atuin/history.db")
    zsh, bash = make(tmp_path / ".zsh_history"), make(tmp_path / ".bash_history")
    (tmp_path / ".zhistory").symlink_to(zsh)
    assert locate_all(tmp_path, {"HISTFILE": str(bash)}) == [(atuin, "atuin"), (bash, "bash"), (zsh, "zsh")]


def test_that_there_is_no_history_at_all_is_said(tmp_path):
    with pytest.raises(SourceError, match=r"atuin/history\.db"):
        locate_all(tmp_path, {})


def test_without_a_target_the_login_shell_comes_first(tmp_path):
    make(tmp_path / ".bash_history")
    history = make(tmp_path / ".zsh_history")
    assert locate(None, None, tmp_path, {"SHELL": "/usr/bin/zsh"}) == (history, "zsh")


@pytest.mark.parametrize("environ", [{}, {"SHELL": "/bin/tcsh"}, {"SHELL": "/bin/bash"}])
def test_without_a_history_of_the_login_shell_the_first_that_exists_is_taken(tmp_path, environ):
    history = make(tmp_path / ".local/share/fish/fish_history")
    assert locate(None, None, tmp_path, environ) == (history, "fish")


def test_a_shell_name_means_its_history_and_a_path_of_that_name_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "zsh")
    history = make(tmp_path / ".zsh_history")
    assert locate("zsh", None, tmp_path, {}) == (history, "zsh")
    assert locate("./zsh", None, tmp_path, {}) == (Path("zsh"), None)


def test_a_shell_without_a_target_means_its_own_history(tmp_path):
    make(tmp_path / ".bash_history")
    history = make(tmp_path / ".histfile")
    assert locate(None, "zsh", tmp_path, {"SHELL": "/bin/bash"}) == (history, "zsh")


def test_a_given_shell_says_how_a_file_or_another_shells_history_is_read(tmp_path):
    history = make(tmp_path / ".zsh_history")
    assert locate(history, "bash", tmp_path, {}) == (history, "bash")
    assert locate("zsh", "bash", tmp_path, {}) == (history, "bash")


def test_home_is_expanded_in_a_path(tmp_path):
    history = make(tmp_path / "old" / "history")
    assert locate("~/old/history", None, tmp_path, {}) == (history, None)


def test_a_missing_file_is_named_with_the_fix(tmp_path):
    with pytest.raises(SourceError, match=r"gone.*ingest-history FILE --shell zsh"):
        locate(str(tmp_path / "gone"), None, tmp_path, {})


def test_nothing_found_names_every_path_and_the_fix(tmp_path):
    with pytest.raises(SourceError) as caught:
        locate(None, None, tmp_path, {"HISTFILE": "/nowhere/bash", "ZDOTDIR": "/nowhere/z"})
    message = str(caught.value)
    for path in ["/nowhere/bash", ".bash_history", "/nowhere/z/.zsh_history", ".zhistory", ".histfile", "fish_history"]:
        assert path in message
    assert "ingest-history FILE --shell zsh" in message
    assert "history -a" in message


def test_a_default_path_that_is_no_file_is_passed_over(tmp_path):
    (tmp_path / ".bash_history").mkdir()
    os.mkfifo(tmp_path / ".zsh_history")
    history = make(tmp_path / ".zhistory")
    assert locate(None, None, tmp_path, {"HISTFILE": "/dev/null", "SHELL": "/bin/bash"}) == (history, "zsh")
