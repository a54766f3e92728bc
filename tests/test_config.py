"""Every setting reaches ``Settings`` by every route, the strongest place wins, and mistakes are named."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnimemory.config import (
    SPECS,
    CacheSettings,
    ChunkingSettings,
    DocumentSettings,
    Settings,
    load_settings,
    parse_size,
    project_file,
    user_file,
)
from omnimemory.errors import ConfigError

# key: (in a TOML file, in the environment, as an argument, what Settings then holds)
ROUTES = {
    "store.path": ('"/a/b"', "/a/b", Path("/a/b"), Path("/a/b")),
    "embedding.model": ('"other"', "other", "other", "other"),
    "embedding.dim": ("64", "64", 64, 64),
    "embedding.precision": ('"int8"', "int8", "int8", "int8"),
    "embedding.threads": ("3", "3", 3, 3),
    "embedding.batch_size": ("7", "7", 7, 7),
    "embedding.profiles": ('["phone=128"]', "phone=128", ["phone=128"], ("phone=128",)),
    "models.path": ('"/m"', "/m", "/m", Path("/m")),
    "models.table": ('"/t.toml"', "/t.toml", "/t.toml", Path("/t.toml")),
    "servers.ollama_url": ('"http://a:1"', "http://a:1", "http://a:1", "http://a:1"),
    "servers.openai_url": ('"http://b/v1"', "http://b/v1", "http://b/v1", "http://b/v1"),
    "servers.allow_remote": ("true", "yes", True, True),
    "servers.allow_cloud": ("true", "1", True, True),
    "servers.document_prompt": ('"passage: "', "passage: ", "passage: ", "passage: "),
    "servers.query_prompt": ('"query: "', "query: ", "query: ", "query: "),
    "servers.force_dim": ("true", "on", True, True),
    "servers.max_tokens": ("256", "256", 256, 256),
    "servers.options": ('["num_ctx=512"]', "num_ctx=512", ["num_ctx=512"], ("num_ctx=512",)),
    "servers.batch_size": ("9", "9", 9, 9),
    "servers.timeout": ("5", "5", 5, 5.0),
    "servers.connect_timeout": ("1.5", "1.5", 1.5, 1.5),
    "servers.tries": ("2", "2", 2, 2),
    "servers.longest_wait": ("0.5", "0.5", 0.5, 0.5),
    "servers.keep_alive": ('"1h"', "1h", "1h", "1h"),
    "servers.index_keep_alive": ('"5s"', "5s", "5s", "5s"),
    "servers.path": ('"/s"', "/s", "/s", Path("/s")),
    "cache.enabled": ("false", "no", False, False),
    "cache.path": ('"/c"', "/c", "/c", Path("/c")),
    "cache.size_limit": ('"3MiB"', "3MiB", 3 * 2**20, 3 * 2**20),
    "cache.hot_items": ("0", "0", 0, 0),
    "chunking.size": ("99", "99", 99, 99),
    "chunking.overlap": ("5", "5", 5, 5),
    "documents.max_bytes": ('"2GB"', "2GB", "2GB", 2 * 10**9),
    "documents.max_depth": ("3", "3", 3, 3),
    "documents.hidden": ("true", "on", True, True),
    "documents.gitignore": ("false", "0", False, False),
    "documents.include": ('["*.md", "a b/"]', "*.md, a b/", ["*.md", "a b/"], ("*.md", "a b/")),
    "documents.exclude": ('["*.log"]', "*.log", ("*.log",), ("*.log",)),
    "history.keep_secrets": ("true", "true", True, True),
    "history.session_gap": ("60", "60", 60.0, 60.0),
    "history.sequence_decay": ("0.5", "0.5", 0.5, 0.5),
    "history.keep_days": ("400", "400", 400.0, 400.0),
    "history.steps": ("20", "20", 20, 20),
    "redaction.allow": ('["/a{1,2}/", "/b/"]', "/a{1,2}/\n/b/", ["/a{1,2}/", "/b/"], ("/a{1,2}/", "/b/")),
    "redaction.deny": ('["a, b | -p"]', "a, b | -p", ("a, b | -p",), ("a, b | -p",)),
    "index.enabled": ("false", "off", False, False),
    "index.documents": ("false", "False", False, False),
    "index.wait": ("false", "no", False, False),
    "index.batch_size": ("1000", "1000", 1000, 1000),
    "index.ef_search": ("50", "50", 50, 50),
    "index.idle_seconds": ("1.5", "1.5", 1.5, 1.5),
    "search.k": ("3", "3", 3, 3),
    "search.mode": ('"vector"', "vector", "vector", "vector"),
    "search.exact_rows": ("5", "5", 5, 5),
    "search.weight": ("0.25", "0.25", 0.25, 0.25),
    "search.model_seconds": ("0.5", "0.5", 0.5, 0.5),
    "memory.reserve": ('"1GiB"', "1GiB", 2**30, 2**30),
    "memory.max_bytes": ("4096", "4096", 4096, 4096),
    "schedule.profile": ('"max_use"', "max_use", "max_use", "max_use"),
    "schedule.wait": ("2.5", "2.5", 2.5, 2.5),
    "schedule.folder": ('"/tmp/leases"', "/tmp/leases", "/tmp/leases", Path("/tmp/leases")),
    "schedule.log_bytes": ('"1MiB"', "1MiB", 2**20, 2**20),
    "schedule.max_model_bytes": ('"2GiB"', "2GiB", 2**31, 2**31),
    "schedule.max_loaded": ("3", "3", 3, 3),
    "schedule.keep_alive": ('["onnx:*=1h"]', "onnx:*=1h", ["onnx:*=1h"], ("onnx:*=1h",)),
    "schedule.priority": ('["onnx:*=1"]', "onnx:*=1", ["onnx:*=1"], ("onnx:*=1",)),
    "schedule.warm_up": ("false", "off", False, False),
    "schedule.pin": ('["onnx:*"]', "onnx:*", ["onnx:*"], ("onnx:*",)),
    "schedule.allow_foreign": ("true", "on", True, True),
    "schedule.allow": ('["static:*"]', "static:*", ["static:*"], ("static:*",)),
    "schedule.deny": ('["onnx:*"]', "onnx:*", ("onnx:*",), ("onnx:*",)),
    "memory.learn": ("false", "off", False, False),
    "memory.learned": ('"/l/x"', "/l/x", Path("/l/x"), Path("/l/x")),
}
PROJECT_KEYS = {
    *("chunking.size", "chunking.overlap", "search.k", "search.mode"),
    *("documents.max_bytes", "documents.max_depth", "documents.include", "documents.exclude"),
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user of our own, with a home, an empty configuration and a project in a git repository."""
    for name in [name for name in os.environ if name.startswith("OMNIMEMORY_")]:
        monkeypatch.delenv(name)
    for name in ("DATA", "CACHE", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "project" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "project" / ".git").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path


def write_user(home: Path, text: str) -> Path:
    path = user_file(os.environ, Path.cwd())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def toml(key: str, value: str) -> str:
    section, name = key.split(".")
    return f"[{section}]\n# a comment\n{name} = {value}\n"


def test_the_table_of_routes_knows_every_setting():
    assert set(ROUTES) == set(SPECS)
    assert {key for key, spec in SPECS.items() if spec.project} == PROJECT_KEYS


@pytest.mark.parametrize("key", SPECS)
def test_no_route_is_tested_with_the_default(key, home):
    assert load_settings()[key] != ROUTES[key][3]
    assert load_settings().origin(key) == "default"


@pytest.mark.parametrize("key", SPECS)
def test_the_user_file_reaches_settings(key, home):
    path = write_user(home, toml(key, ROUTES[key][0]))
    settings = load_settings()
    assert settings[key] == ROUTES[key][3]
    assert type(settings[key]) is type(ROUTES[key][3]) or isinstance(settings[key], Path)
    assert settings.origin(key) == f"{path}:3"


@pytest.mark.parametrize("key", SPECS)
def test_the_environment_reaches_settings(key, home):
    name = f"OMNIMEMORY_{key.replace('.', '_').upper()}"
    settings = load_settings(environ={**os.environ, name: ROUTES[key][1]})
    assert settings[key] == ROUTES[key][3]
    assert name in settings.origin(key)


@pytest.mark.parametrize("key", SPECS)
def test_an_argument_reaches_settings(key, home):
    settings = load_settings({key: ROUTES[key][2]})
    assert settings[key] == ROUTES[key][3]
    assert settings.origin(key) == "argument"
    assert Settings().with_values({key: ROUTES[key][2]})[key] == ROUTES[key][3]


@pytest.mark.parametrize("key", SPECS)
def test_a_project_file_sets_what_is_harmless_and_nothing_else(key, home):
    path = home / "project" / "omnimemory.toml"
    path.write_text(toml(key, ROUTES[key][0]))
    if key in PROJECT_KEYS:
        assert load_settings()[key] == ROUTES[key][3]
        assert load_settings().origin(key) == f"{path}:3"
    else:
        with pytest.raises(ConfigError) as caught:
            load_settings()
        assert f"{path}:3: a project's file may not set {key}" in str(caught.value)
        assert f"OMNIMEMORY_{key.replace('.', '_').upper()}" in str(caught.value)


def test_each_place_beats_the_weaker_ones(home):
    def k(**variables: str) -> int:
        return load_settings(environ={**os.environ, **variables}).search.k

    assert k() == 10
    write_user(home, "search.k = 1")
    assert k() == 1
    (home / "project" / "omnimemory.toml").write_text("search.k = 2")
    assert k() == 2
    assert k(OMNIMEMORY_SEARCH_K="3") == 3
    assert load_settings({"search.k": 4}, environ={**os.environ, "OMNIMEMORY_SEARCH_K": "3"}).search.k == 4
    assert load_settings({"search.k": None}).search.k == 2


def test_the_short_name_of_the_store_works_and_may_not_contradict_the_long_one(home):
    assert load_settings(environ={**os.environ, "OMNIMEMORY_STORE": "notes"}).store.path == home / "project" / "notes"
    same = {"OMNIMEMORY_STORE": "/x", "OMNIMEMORY_STORE_PATH": "/x"}
    assert load_settings(environ={**os.environ, **same}).store.path == Path("/x")
    with pytest.raises(ConfigError, match="name different stores"):
        load_settings(environ={**os.environ, **same, "OMNIMEMORY_STORE": "/y"})


def test_relative_paths_count_from_where_they_are_written_and_a_tilde_is_home(home):
    path = write_user(home, '[store]\npath = "mem"\n[cache]\npath = "~/vectors"')
    settings = load_settings()
    assert settings.store.path == path.parent / "mem"
    assert settings.cache.path == home / "vectors"
    assert load_settings({"store.path": "mem"}).store.path == Path.cwd() / "mem"


def test_an_empty_variable_counts_as_unset_and_none_as_none(home):
    write_user(home, '[memory]\nreserve = "none"\n[search]\nweight = 0.5')
    variables = {"OMNIMEMORY_SEARCH_K": "", "OMNIMEMORY_SEARCH_WEIGHT": "none", "OMNIMEMORY_CONFIG": ""}
    settings = load_settings(environ={**os.environ, **variables})
    assert (settings.search.k, settings.search.weight, settings.memory.reserve) == (10, None, None)


def test_the_users_file_can_be_named_and_must_then_exist(home):
    named = home / "elsewhere.toml"
    environ = {**os.environ, "OMNIMEMORY_CONFIG": str(named)}
    with pytest.raises(ConfigError, match="does not exist"):
        load_settings(environ=environ)
    named.write_text("[search]\nk = 6")
    write_user(home, "[search]\nk = 7")
    assert load_settings(environ=environ).search.k == 6


def test_the_project_file_is_found_up_to_the_git_root_or_home_and_no_further(home):
    deep = home / "project" / "deep" / "er"
    (home / "omnimemory.toml").touch()
    assert project_file(os.environ, deep) is None, "home is beyond the root of the repository"
    assert project_file(os.environ, home / "elsewhere") == home / "omnimemory.toml"
    (home / "project" / "omnimemory.toml").touch()
    assert project_file(os.environ, deep) == home / "project" / "omnimemory.toml"
    (home / "project" / "deep" / "omnimemory.toml").touch()
    assert project_file(os.environ, deep) == home / "project" / "deep" / "omnimemory.toml"


def test_outside_of_home_and_repositories_only_the_folder_itself_counts(home):
    shared = home / "shared"
    (shared / "mine").mkdir(parents=True)
    (shared / "omnimemory.toml").touch()
    other_home = {**os.environ, "HOME": str(home / "somebody")}
    assert project_file(other_home, shared / "mine") is None
    assert project_file(other_home, shared) == shared / "omnimemory.toml"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("[chunking]\n\nsizee = 4", ["3", "'chunking.sizee'", "chunking.size?"], id="misspelt key"),
        pytest.param("[serch]\nk = 4", ["2", "'serch.k'", "search.k?"], id="misspelt section"),
        pytest.param("[serch]\n", ["1", "'serch'"], id="unknown empty section"),
        pytest.param("\nzzz = 1", ["2", "'zzz'", "omnimemory config"], id="nothing like it"),
        pytest.param("search = 3", ["1", "search is a section"], id="section without keys"),
        pytest.param("[search]\nk = '3'", ["2", "whole number from 1", "'3'"], id="text for a number"),
        pytest.param("[search]\nk = true", ["2", "whole number"], id="switch for a number"),
        pytest.param("[search]\nk = 2.0", ["2", "whole number"], id="fraction for a whole number"),
        pytest.param("search.k = 0", ["1", "from 1 to 10,000, not 0"], id="below the range"),
        pytest.param("search = { k = 10001 }", ["1", "from 1 to 10,000"], id="above the range"),
        pytest.param("[search]\nk = {a = 1}", ["2", "whole number"], id="table for a number"),
        pytest.param("[search]\nmode = 'fast'", ["2", "one of hybrid, vector, keyword"], id="not a choice"),
        pytest.param("[search]\nweight = nan", ["2", "search.weight", "or none"], id="not a number"),
        pytest.param("[cache]\nenabled = 'yes'", ["2", "true or false"], id="text for a switch"),
        pytest.param("[cache]\nsize_limit = '3 parsecs'", ["2", "512MiB"], id="not a size"),
        pytest.param("[cache]\nsize_limit = -1", ["2", "cache.size_limit"], id="negative size"),
        pytest.param("[cache]\nsize_limit = '99999999999 TiB'", ["2", "cache.size_limit"], id="absurd size"),
        pytest.param("[documents]\nexclude = 'a'", ["2", "a list of texts"], id="text for a list"),
        pytest.param("[documents]\nexclude = ['a', 1]", ["2", "a list of texts"], id="number in a list"),
        pytest.param("[embedding]\nmodel = 3", ["2", "a text"], id="number for a text"),
        pytest.param("[embedding]\nmodel = ' '", ["2", "a text"], id="blank text"),
        pytest.param("[store]\npath = ''", ["2", "a path"], id="empty path"),
        pytest.param('[store]\npath = "a\\u0000b"', ["2", "a path"], id="NUL in a path"),
        pytest.param("[store]\npath = '~nobody-of-that-name/x'", ["2", "a path"], id="home of nobody"),
        pytest.param("[chunking]\noverlap = 128", ["2", "chunking.size = 256 (default)"], id="overlap not below half"),
        pytest.param("[search]\nk = \n", ["2", "not TOML"], id="no value"),
        pytest.param("[search]\nk = 1\nk = 2", ["3", "not TOML"], id="twice"),
        pytest.param("x = [1,\n\n", ["3", "not TOML"], id="never closed"),
        pytest.param("x = " + "[" * 9000 + "]" * 9000, ["nested too deeply"], id="very deep"),
        pytest.param("x = 1\n" * 50_000, ["larger than"], id="very large"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_file_line_and_fix(text, expected, home):
    path = write_user(home, text)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    line, *words = expected if expected[0].isdigit() else ["", *expected]
    assert f"{path}:{line}" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("section", ['"search"', "'search'", " search "], ids=["quoted", "single quotes", "spaces"])
def test_the_line_of_a_key_is_found_however_it_is_written(section, home):
    path = write_user(home, f"# [search]\n[{section}]\nmode = 'vector'\n\"k\"\t=\t0\n")
    with pytest.raises(ConfigError, match="must be") as caught:
        load_settings()
    assert str(caught.value).startswith(f"{path}:4: search.k ")


@pytest.mark.parametrize("name", ["OMNIMEMORY_SERCH_K", "OMNIMEMORY_K", "OMNIMEMORY_"])
def test_an_unknown_variable_is_an_error(name, home):
    with pytest.raises(ConfigError, match=f"the environment variable {name}: there is no setting"):
        load_settings(environ={**os.environ, name: "3"})


def test_an_unknown_variable_is_told_its_nearest_relative(home):
    with pytest.raises(ConfigError, match=r"did you mean OMNIMEMORY_SEARCH_K\?"):
        load_settings(environ={**os.environ, "OMNIMEMORY_SERCH_K": "3"})


def test_variables_that_are_no_settings_are_left_alone(home):
    assert load_settings(environ={**os.environ, "OMNIMEMORY_DEBUG": "1", "OMNIMEMORYX": "1"}) == load_settings()


@pytest.mark.parametrize(
    ("name", "text"),
    [("SEARCH_K", "many"), ("SEARCH_K", "1e3"), ("CACHE_ENABLED", "maybe"), ("INDEX_IDLE_SECONDS", "nan")],
)
def test_a_bad_variable_is_named_with_its_text(name, text, home):
    with pytest.raises(ConfigError, match=f"OMNIMEMORY_{name}: .* must be .*, not .*{text}"):
        load_settings(environ={**os.environ, f"OMNIMEMORY_{name}": text})


def test_an_unknown_argument_is_an_error(home):
    for attempt in (load_settings, Settings().with_values):
        with pytest.raises(ConfigError, match=r"did you mean search\.k\?"):
            attempt({"serch.k": 1})
    with pytest.raises(ConfigError, match="there is no setting"):
        Settings()["chunking.nothing"]


def test_settings_made_by_hand_are_checked_and_brought_to_their_type(home):
    with pytest.raises(ConfigError, match=r"chunking\.size"):
        Settings(chunking=ChunkingSettings(size=0))
    with pytest.raises(ConfigError, match="below half of the size"):
        replace(Settings(), chunking=ChunkingSettings(size=40, overlap=20))
    assert Settings(documents=DocumentSettings(max_bytes="1k")).documents.max_bytes == 1024
    assert Settings(cache=CacheSettings(path="x")).cache.path == Path("x")


def test_with_values_keeps_the_rest_and_tells_the_origin(home):
    write_user(home, "[chunking]\nsize = 100")
    settings = load_settings().with_values({"chunking.overlap": 10, "search.k": None}, "the demo")
    assert (settings.chunking.size, settings.chunking.overlap, settings.search.k) == (100, 10, 10)
    assert settings.origin("chunking.overlap") == "the demo"
    assert ":2" in settings.origin("chunking.size")
    assert settings.origin("search.k") == "default"


def test_the_defaults_are_where_the_platform_wants_them(home):
    assert load_settings().store.path == home / "data" / "omnimemory" / "memory"
    assert load_settings().cache.path == home / "cache" / "omnimemory" / "embeddings"
    assert user_file({}, Path.cwd()) == home / "config" / "omnimemory" / "config.toml"
    assert load_settings() == Settings()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_an_error(home):
    write_user(home, "").chmod(0)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings()


def test_a_file_that_is_none_is_an_error_and_nothing_hangs(home):
    path = home / "project" / "omnimemory.toml"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a regular file"):
        load_settings()
    path.unlink()
    path.symlink_to(home / "nowhere")
    with pytest.raises(ConfigError, match="does not exist"):
        load_settings()


def test_a_file_that_is_not_utf8_is_an_error_with_its_line_and_a_byte_order_mark_is_none(home):
    path = write_user(home, "")
    path.write_bytes(b"[search]\nk = 3 # \xff\n")
    with pytest.raises(ConfigError, match=":2: the settings file is not UTF-8"):
        load_settings()
    path.write_bytes(b"\xef\xbb\xbf[search]\nk = 3\n")
    assert load_settings().search.k == 3


def test_a_current_directory_that_is_gone_is_an_error_that_says_so(home):
    gone = home / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="current directory is gone"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("17", 17),
        ("17 B", 17),
        ("2k", 2048),
        ("2K", 2048),
        ("2kB", 2000),
        ("2KiB", 2048),
        ("2ki", 2048),
        ("1.5 MiB", 3 * 2**19),
        ("1.5mb", 1_500_000),
        ("3g", 3 * 2**30),
        ("1TB", 10**12),
        (5, 5),
    ],
)
def test_sizes_are_read(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "k", "1 2", "-1", "1e3", "1 XB", "1KiBs", "0x10", True, 1.5, None])
def test_other_things_are_no_sizes(text):
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@given(st.integers(0, 2**50), st.sampled_from(["", "B", " b"]))
def test_a_number_of_bytes_is_that_number(number, unit):
    assert parse_size(f"{number}{unit}") == number


def test_importing_the_settings_needs_nothing_heavy():
    code = "import sys, omnimemory.config; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert not loaded & {"numpy", "click", "tomllib", "platformdirs", "difflib", "chromadb", "sqlite3"}
    ours = {name for name in loaded if name.startswith("omnimemory")}
    parts = {f"omnimemory.config.{part}" for part in ("keys", "places", "schedule_settings", "settings", "spec")}
    assert ours == {"omnimemory", "omnimemory.errors", "omnimemory.config", *parts}
